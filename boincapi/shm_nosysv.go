//go:build unix && !linux && !(darwin && !ios)

package boincapi

import (
	"errors"
	"fmt"
)

func attachSysV(key int) (segment []byte, detach func() error, err error) {
	return nil, nil, fmt.Errorf("attach System V segment %#x: %w", uint32(key), errors.ErrUnsupported)
}
