package host

import "testing"

func TestShared(t *testing.T) {
	const table = `27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
28 27 0:30 / /data rw,relatime - ext4 /dev/vdb rw
29 28 0:31 / /data/with\040space rw shared:7 master:2 - tmpfs shared:9 rw
30 27 0:32 / /twice rw - tmpfs a rw
31 30 0:33 / /twice rw shared:8 - tmpfs b rw
32 27 0:34 / /slave rw master:1 propagate_from:2 - tmpfs shared:3 rw
short
`
	for dir, want := range map[string]bool{"/": true, "/home": true, "/data": false, "/data/x": false, "/database": true, "/data/with space/x": true,
		"/twice": true, "/slave/x": false} {
		if got, known := sharedIn(table, dir); got != want || !known {
			t.Errorf("%s: got %v, known %v, want %v", dir, got, known, want)
		}
	}
	if _, known := sharedIn("", "/"); known {
		t.Error("an empty table: got known")
	}
	if _, known := Shared("/proc"); !known {
		t.Error("this host's /proc: got unknown")
	}
	if _, known := Shared("/nowhere"); known {
		t.Error("no such directory: got known")
	}
}
