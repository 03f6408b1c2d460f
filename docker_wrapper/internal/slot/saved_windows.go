package slot

// SyncDir does nothing: NTFS keeps its names in a journal, and a directory can't be flushed.
func SyncDir(string) error { return nil }
