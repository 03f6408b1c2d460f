package slot

import "os"

const syncMode = os.O_RDWR // FlushFileBuffers wants the right to write
