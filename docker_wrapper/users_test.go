//go:build integration

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"boincdocker/boincapi/boinctest"
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

// usersScript tries to write in each place, tells the client how far it is, and waits until that has its message. Its
// files are for its own user alone, and one has a set-user-ID bit.
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
i=0
while [ -e trickle_up.xml ] && [ $i -lt 300 ]; do sleep 0.1; i=$((i + 1)); done
while [ $i -lt 15 ]; do sleep 0.1; i=$((i + 1)); done # progress is read once a second
`

// Who the container's user is decides what the job can write, by the same table on each engine. BOINC's user, who isn't
// root, hears of the job's progress and gets all files.
func TestUsers(t *testing.T) {
	t.Parallel()
	uid := os.Getuid()
	run := []string{binary(t, "docker_wrapper")}
	owned := uint32(uid)
	rootless := uid != 0
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
		for _, files := range []string{"signed", "unsigned"} {
			for _, user := range []string{"auto", "image"} {
				all = append(all, row{image, user, files})
			}
		}
	}
	var clients []*boinctest.Client
	for i, r := range all {
		name := strings.Join([]string{r.files, r.user, r.image}, "_")
		c := newClientIn(t, dir, i, "users_"+name, nil)
		config := fmt.Sprintf("image = %q\nuser = %q\nentrypoint = [\"sh\", \"-c\", '''%s''']\ncheckpoint.file = \"checkpoint\"\nnetwork = \"none\"\n", images[r.image], r.user, usersScript)
		err := errors.Join(c.AddAppFile("job_"+name, "job.toml", []byte(config), boinctest.FileOptions{Copy: true, NotSigned: r.files == "unsigned"}),
			c.AddInput("input_"+name, "input", []byte("x\n"), true))
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
			end, err := c.Run(t.Context(), run[0], run[1:]...)
			said := stderrOf(t, c)
			if err != nil || end.Outcome != boinctest.Success {
				t.Errorf("%v: got %+v, %v\n%s", r, end, err, said)
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
			if !slices.ContainsFunc(c.Statuses(), func(s boinctest.AppStatus) bool { return s.Fraction == 0.5 }) {
				t.Errorf("%v: the fraction done 0.5 was not reported", r)
			}
			if c.Last().Checkpoints == 0 {
				t.Errorf("%v: no checkpoint was reported", r)
			}
			if tr := c.Trickles(); len(tr) != 1 {
				t.Errorf("%v: got trickles %q, want 1\n%s", r, tr, said)
			}
			mu.Lock()
			rows[fmt.Sprintf("%-8s user=%-5s image=%-4s", r.files, r.user, r.image)] = fmt.Sprintf("writes %v, fraction %v, trickles %d", got, c.Last().Fraction, len(c.Trickles()))
			mu.Unlock()
			for _, name := range []string{"out", "d", "d/e", "d/e/f", "input"} {
				fi, err := os.Lstat(filepath.Join(c.Slot(), name))
				if err != nil {
					t.Errorf("%v: %v", r, err)
				} else if got := fi.Sys().(*syscall.Stat_t).Uid; got != owned || fi.Mode()&(fs.ModeSetuid|fs.ModeSetgid) != 0 {
					t.Errorf("%v: %s is user %d's and has the mode %v, want %d's without special bits", r, name, got, fi.Mode(), owned)
				}
			}
			if got := containers(t, c); i == 0 && got != "" {
				eventually(t, "no container is left", func() bool { return containers(t, c) == "" })
			}
		})
	}
	wg.Wait()
	for _, r := range slices.Sorted(func(yield func(string) bool) {
		for k := range rows {
			if !yield(k) {
				return
			}
		}
	}) {
		t.Log(r, rows[r])
	}
}
