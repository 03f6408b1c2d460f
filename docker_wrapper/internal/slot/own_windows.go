package slot

// OthersOwn reports false: in the container, files on a Windows disk belong to the user that shares it.
func OthersOwn(string, int) bool { return false }

// Owner says who gets files.
type Owner struct {
	UID, GID int
	Shared   bool
	Since    int64
}

// ChangeOwner does nothing on Windows.
func ChangeOwner(string, Owner, ...string) error { return nil }

func share(string, ...string) error { return nil }
