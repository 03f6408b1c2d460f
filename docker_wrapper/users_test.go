//go:build integration

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"boincdocker/boincapi/boinctest"
	"boincdocker/docker_wrapper/internal/job"
)

// usersImage is an image with directories that are its user's own. dir is the label's value.
func usersImage(dir, user string) string {
	owner, line := "root", ""
	if user == "app" {
		owner = "app"
	}
	if user != "none" {
		line = "USER " + user + "\n"
	}
	return fmt.Sprintf("FROM debian:bookworm-slim\nLABEL %s=%q\nRUN useradd -u 1000 -m app && mkdir -m 700 /opt/state /work\n"+
		"RUN chown %s /opt/state /work\n%sWORKDIR /work\n", labelTest, dir, owner, line)
}

// usersScript tries to write in each place, tells the client how far it is, and waits until the test says that the client
// knows everything. Its files are for its own user alone, one has a set-user-ID bit, and at last their directories are
// closed.
const usersScript = `umask 077
cd "$BOINC_SLOT_DIR" || exit 97
try() { if sh -c "$2" 2>/dev/null; then echo "$1 ok"; else echo "$1 denied"; fi; }
try slot 'mkdir -p d/e && echo x >d/e/f && cp /bin/true out && chmod 6755 out'
try input 'echo x >>input && mv input moved && mv moved input'
try cache 'mkdir -p ~/.cache && echo x >~/.cache/x'
try state 'echo x >/opt/state/x'
try work 'cd /work && echo x >x'
try home '[ "$HOME" != / ] && case $HOME in $BOINC_SLOT_DIR*) false ;; esac'
echo 0.5 >part && mv part fraction_done
echo 0.5 >checkpoint
printf '<variety>v</variety>\nhello\n' >part && mv part trickle_up.xml
echo result >part && mv part linked && echo >boinc_ufr_linked
while [ ! -e go_on ]; do sleep 0.1; done
mkdir ro no && echo x >ro/f && echo x >no/f && chmod 555 ro && chmod 000 no
chmod 500 . 2>/dev/null
exit 0
`

// Who the container's user is decides what the job can write, by the same table on each engine. BOINC's user, who isn't
// root, hears of the job's progress and gets all files.
func TestUsers(t *testing.T) {
	t.Parallel()
	run, owned := []string{binary(t, "docker_wrapper")}, uint32(os.Getuid())
	rootless := owned != 0
	if !rootless {
		fi, err := os.Stat("/var/run/docker.sock")
		if err != nil {
			t.Fatal(err)
		}
		setpriv, err := exec.LookPath("setpriv")
		if err != nil {
			t.Fatal(err)
		}
		owned = 64322
		run = append([]string{setpriv, fmt.Sprintf("--reuid=%d", owned), fmt.Sprintf("--regid=%d", owned), fmt.Sprintf("--groups=%d", fi.Sys().(*syscall.Stat_t).Gid)}, run...)
	}
	dir := t.TempDir()
	var mu sync.Mutex
	rows := map[string]string{}
	type row struct{ image, user, files string }
	var all []row
	images := map[string]string{}
	for _, image := range []string{"none", "root", "app"} {
		images[image] = strings.ToLower(fmt.Sprintf("users_test_%d:%s", os.Getpid(), image))
		build := exec.Command("docker", "build", "-q", "-t", images[image], "-")
		build.Stdin = strings.NewReader(usersImage(dir, image))
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("build %s: %v\n%s", images[image], err, out)
		}
		all = append(all, row{image, "auto", "signed"}, row{image, "auto", "unsigned"}, row{image, "image", "unsigned"})
	}
	var clients []*boinctest.Client
	for i, r := range all {
		name := strings.Join([]string{r.files, r.user, r.image}, "_")
		c := newClientIn(t, dir, i, "users_"+name, nil)
		config := fmt.Sprintf("image = %q\nuser = %q\nentrypoint = [\"sh\", \"-c\", '''%s''']\ncheckpoint.file = \"checkpoint\"\nnetwork = \"none\"\n", images[r.image], r.user, usersScript)
		err := errors.Join(c.AddAppFile("job_"+name, "job.toml", []byte(config), boinctest.FileOptions{Copy: true, NotSigned: r.files == "unsigned"}),
			c.AddInput("input_"+name, "input", []byte("x\n"), true), second(c.AddOutput(0, "linked", false)))
		if err != nil {
			t.Fatal(err)
		}
		clients = append(clients, c)
	}
	if !rootless {
		giveTo(t, dir, int(owned))
	}
	var wg sync.WaitGroup
	for i, r := range all {
		wg.Go(func() {
			c := clients[i]
			p, err := c.Start(t.Context(), run[0], run[1:]...)
			if err != nil {
				t.Errorf("%v: %v", r, err)
				return
			}
			over := make(chan boinctest.Result, 1)
			go func() { over <- p.Wait() }()
			told := every(100*time.Millisecond, 2*time.Minute, func() bool {
				half := func(s boinctest.AppStatus) bool { return s.Fraction == 0.5 && s.Checkpoints > 0 }
				return len(over) > 0 || slices.ContainsFunc(c.Statuses(), half) && len(c.Trickles()) == 1 && slices.Equal(c.Uploads(), []string{"linked"})
			})
			if err := os.WriteFile(filepath.Join(c.Slot(), job.WrapperDir, "payload", "go_on"), nil, 0o644); err != nil {
				t.Errorf("%v: %v", r, err)
			}
			end, said := <-over, stderrOf(t, c)
			if end.Outcome != boinctest.Success || !told {
				t.Errorf("%v: got %+v; trickles %q, uploads %q, last %+v\n%s", r, end, c.Trickles(), c.Uploads(), c.Last(), said)
			}
			var got []string
			for _, what := range []string{"slot", "input", "cache", "home", "state", "work"} {
				switch {
				case strings.Contains(said, what+" ok"):
					got = append(got, what)
				case !strings.Contains(said, what+" denied"):
					t.Errorf("%v: nothing about %s in\n%s", r, what, said)
				}
			}
			want := []string{"slot", "input", "cache", "home"}
			asImage := r.files == "signed" || r.user == "image"
			if asImage || rootless && r.image != "app" { // root is BOINC's user there
				want = append(want, "state", "work")
			}
			if !slices.Equal(got, want) {
				t.Errorf("%v: the job can write %v, want %v", r, got, want)
			}
			mu.Lock()
			rows[fmt.Sprintf("%-8s user=%-5s image=%-4s", r.files, r.user, r.image)] = fmt.Sprintf("writes %v", got)
			mu.Unlock()
			result := filepath.Join(c.ProjectDir(), c.InitData().ResultName+"_r123_0")
			if got := string(mayRead(result)); got != "result\n" {
				t.Errorf("%v: the linked output: got %q", r, got)
			}
			for _, name := range []string{"out", "d", "d/e", "d/e/f", "input", "ro", "ro/f", "no", "no/f", result} {
				if !filepath.IsAbs(name) {
					name = filepath.Join(c.Slot(), name)
				}
				fi, err := os.Lstat(name)
				if err != nil {
					t.Errorf("%v: %v", r, err)
				} else if got := fi.Sys().(*syscall.Stat_t).Uid; got != owned || fi.Mode()&(fs.ModeSetuid|fs.ModeSetgid) != 0 {
					t.Errorf("%v: %s is user %d's and has the mode %v, want %d's without special bits", r, name, got, fi.Mode(), owned)
				}
			}
			clear := append(slices.Clone(run[:len(run)-1]), "rm", "-rf", filepath.Join(c.Slot(), "no"), filepath.Join(c.Slot(), "ro"), filepath.Join(c.Slot(), "d"))
			if out, err := exec.Command(clear[0], clear[1:]...).CombinedOutput(); err != nil {
				t.Errorf("%v: clear the slot: %v\n%s", r, err, out)
			}
		})
	}
	wg.Wait()
	if got := containers(t, clients[0]); got != "" {
		t.Errorf("containers left: %s", got)
	}
	for _, r := range slices.Sorted(maps.Keys(rows)) {
		t.Log(r, rows[r])
	}
}

func second[T any](_ T, err error) error { return err }
