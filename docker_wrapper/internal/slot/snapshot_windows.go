package slot

import (
	"io/fs"
	"os"
)

func ownerAndMark(fs.FileInfo) (owner [2]int, mark [2]int64) { return [2]int{-1, -1}, mark }

func giveTo(*os.Root, string, [2]int) error { return nil }

func canRestoreOwner([2]int) bool { return true }
