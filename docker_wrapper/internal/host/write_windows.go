package host

import "os"

// syncNames does nothing: NTFS writes names to a journal, and Windows can't flush a directory.
func syncNames(*os.File) error { return nil }
