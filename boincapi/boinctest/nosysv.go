//go:build unix && !linux && !(darwin && !ios)

package boinctest

import (
	"errors"

	"boincdocker/boincapi"
)

func createSysV(*boincapi.InitData) (segment []byte, destroy func() error, err error) {
	return nil, nil, errors.ErrUnsupported
}
