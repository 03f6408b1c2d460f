package slot

// SyncDir does nothing: NTFS writes names to a journal, and Windows can't flush a directory.
func SyncDir(string) error { return nil }
