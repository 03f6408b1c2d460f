//go:build unix

package slot

import "os"

const syncMode = os.O_RDONLY // a file that may only be read can be synced, too
