//go:build integration

package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"boincdocker/boincapi/boinctest"
	"boincdocker/docker_wrapper/internal/host"
	"boincdocker/docker_wrapper/internal/job"
)

// theoryEntrypoint does what the entrypoint of LHC@home's Theory does without a network: root serves a page from a file system
// that it mounts, reads CVMFS, opens FUSE's device, and runs the input as another user.
const theoryEntrypoint = `#!/bin/sh
set -e
[ "$(id -u)" = 0 ]
[ "$(pwd)" = /boinc_slot_dir ]
mkdir -p /run/web
mount -t tmpfs tmpfs /run/web
echo graphics >/run/web/index.html
httpd -p 80 -h /run/web
[ -c /dev/fuse ]
exec 3<>/dev/fuse 3>&-
cp /cvmfs/release from_cvmfs
cp input /scratch/input
chown boinc /scratch
su boinc -c 'cd /scratch && ./input' >runRivet.log
tar czf output.tgz -C /scratch result
until [ -e go_on ]; do sleep 0.1; done
`

// The job of LHC@home's Theory, with its job.toml of 2025 and the older one's options: its first run says which lines the
// owner must write. With these it succeeds.
func TestTheory(t *testing.T) {
	t.Parallel()
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		t.Fatalf("install busybox-static: %v", err)
	}
	device, deviceFile := "/dev/fuse", "/dev/fuse"
	if name := os.Getenv("TEST_ENGINE_NAME"); name != "" && name != "docker-host" { // an engine in a container has no such device
		device, deviceFile = "/dev/zero:/dev/fuse", "/dev/zero"
	}
	cvmfs := t.TempDir()
	if err := os.WriteFile(filepath.Join(cvmfs, "release"), []byte("pythia8\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	c := newClient(t, "theory", nil)
	add(t, c, "Dockerfile", fmt.Appendf(nil, `FROM scratch
LABEL %s=%q
COPY busybox /bin/busybox
RUN ["/bin/busybox", "--install", "-s", "/bin"]
RUN mkdir -p /etc /scratch /run && echo root:x:0:0::/:/bin/sh >/etc/passwd && echo boinc:x:1000:1000::/scratch:/bin/sh >>/etc/passwd
EXPOSE 80
WORKDIR /boinc_slot_dir
CMD ./entrypoint.sh
`, labelTest, c.DataDir()))
	add(t, c, "job.toml", fmt.Appendf(nil, "workdir = \"/boinc_slot_dir\"\nweb_graphics_guest_port = 80\nverbose = 1\nuser = \"image\"\n"+
		"create_args = \"-v %s:/cvmfs:shared --cap-add=SYS_ADMIN --device %s\"\n", cvmfs, device))
	for name, text := range map[string]string{"busybox": read(t, busybox), "entrypoint.sh": theoryEntrypoint, "input": "#!/bin/sh\nid -un\nid -un >result\n"} {
		if err := c.AddAppFile(name+"_1", name, []byte(text), boinctest.FileOptions{Copy: true, Executable: true, NotSigned: name == "input"}); err != nil {
			t.Fatal(err)
		}
	}

	r, err := c.Run(t.Context(), binary(t, "docker_wrapper"))
	if err != nil || r.Outcome != boinctest.TemporaryExit || r.Delay != 30*time.Minute {
		t.Fatalf("without the owner's lines: got %+v, %v\n%s", r, err, stderrOf(t, c))
	}
	said := regexp.MustCompile(`create_args: (.*) aren't allowed on this computer \(its owner can allow them: write the lines (.*) into (.*)\)`).FindStringSubmatch(stderrOf(t, c))
	if said == nil || !strings.HasPrefix(r.Reason, "job.toml:5:15: create_args: ") {
		t.Fatalf("without the owner's lines: got %+v\n%s", r, stderrOf(t, c))
	}
	for i, want := range []string{fmt.Sprintf(`volume \"%s:/cvmfs:shared\", --cap-add SYS_ADMIN and --device %s`, cvmfs, deviceFile),
		fmt.Sprintf(`mounts = ['%s'], capabilities = ['SYS_ADMIN'] and devices = ['%s']`, cvmfs, deviceFile), filepath.Join(c.DataDir(), job.PolicyFile)} {
		if got := said[i+1]; got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
	lines := regexp.MustCompile(`\w+ = \[[^]]*\]`).FindAllString(said[2], -1)
	if err := os.WriteFile(said[3], []byte(strings.Join(lines, "\n")), 0o644); err != nil {
		t.Fatal(err)
	}

	p, err := c.Start(t.Context(), binary(t, "docker_wrapper"))
	if err != nil {
		t.Fatal(err)
	}
	if !every(20*time.Millisecond, 2*time.Minute, func() bool { // with the build
		r, err := http.Get(c.WebGraphicsURL())
		if err != nil {
			return false
		}
		defer r.Body.Close()
		text, err := io.ReadAll(r.Body)
		return err == nil && string(text) == "graphics\n"
	}) {
		t.Fatalf("no web graphics at %q\n%s", c.WebGraphicsURL(), stderrOf(t, c))
	}
	if err := os.WriteFile(filepath.Join(c.Slot(), job.WrapperDir, "payload", "go_on"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if r := p.Wait(); r.Outcome != boinctest.Success {
		t.Fatalf("with the owner's lines: got %+v\n%s", r, stderrOf(t, c))
	}
	if got := read(t, filepath.Join(c.Slot(), "runRivet.log")) + read(t, filepath.Join(c.Slot(), "from_cvmfs")); got != "boinc\npythia8\n" {
		t.Errorf("the outputs: got %q", got)
	}
	if fi, err := os.Stat(filepath.Join(c.Slot(), "output.tgz")); err != nil || fi.Size() == 0 {
		t.Errorf("output.tgz: got %v, %v", fi, err)
	}
	if shared, known := host.Shared(cvmfs); known && !shared && !strings.Contains(stderrOf(t, c), "the host doesn't share its mounts below "+cvmfs) {
		t.Errorf("the mount isn't shared, and stderr.txt doesn't say so:\n%s", stderrOf(t, c))
	}
	cleanAfterwards(t, c, os.Getuid())
}
