package boincapi

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// StateFile is the client's own file in its data directory.
const StateFile = "client_state.xml"

// maxState is how many bytes of it are read. A client with a thousand jobs has a few MiB.
const maxState = 64 << 20

// Output is what the client knows about an output file of a result.
type Output struct {
	Logical  string // its name in the slot; "" if it has none
	Physical string // its name in the project directory
	Copied   bool   // the client moves it out of the slot after the job, so the slot has no link (<copy_file/>)
	Optional bool   // the result is no error without it
	Uploaded bool   // before the end of the job, at its request; then the client has removed the file
}

// Outputs reads from the client's state file which output files a result has. init_data.xml doesn't tell.
//
// Format: RESULT::write, FILE_REF::write and FILE_INFO::write in BOINC's client/result.cpp and client/client_types.cpp.
func Outputs(dataDir, result string) ([]Output, error) {
	f, err := os.Open(filepath.Join(dataDir, StateFile))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxState))
	if err != nil {
		return nil, err
	}
	list, err := parseOutputs(data, result)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", StateFile, err)
	}
	return list, nil
}

func parseOutputs(data []byte, result string) ([]Output, error) {
	s := newScanner(data)
	for {
		t, err := s.next()
		if err != nil {
			return nil, err
		}
		if t.tag && t.text == "client_state" {
			break
		} else if t.tag && !strings.Contains(t.text, "?xml") {
			return nil, fmt.Errorf("the first tag is not <client_state>")
		}
	}
	var list []Output
	found := false
	uploaded := map[string]bool{}
	file := element(func(s *scanner, tag string) error {
		var name string
		var done bool
		err := s.block(tag, fields{"name": &name, "uploaded": &done})
		uploaded[name] = uploaded[name] || done
		return err
	})
	err := s.block("client_state", fields{"file": file, "file_info": file, "result": element(func(s *scanner, tag string) error {
		var name string
		var outputs []Output
		err := s.block(tag, fields{"name": &name, "file_ref": element(func(s *scanner, tag string) error {
			var o Output
			err := s.block(tag, fields{"file_name": &o.Physical, "open_name": &o.Logical, "copy_file": &o.Copied, "optional": &o.Optional})
			outputs = append(outputs, o)
			return err
		})})
		if name == result {
			list, found = append(list, outputs...), true
		}
		return err
	})})
	if err != nil {
		return nil, err
	}
	if !found {
		return nil, errors.New("it doesn't have this result")
	}
	for i, o := range list {
		list[i].Uploaded = uploaded[o.Physical]
	}
	return list, nil
}
