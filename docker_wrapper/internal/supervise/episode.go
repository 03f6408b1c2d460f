package supervise

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// Episode is the little that must outlive the wrapper and that the engine can't tell. It lies in
// the wrapper's directory of the slot, out of the container's reach.
type Episode struct {
	Container  string        `json:"container,omitempty"` // ID of the one that CPUBase is for
	Boot       string        `json:"boot,omitempty"`      // when it was last started, by the kernel's name for that
	CPUBase    time.Duration `json:"cpu_base,omitempty"`  // what earlier containers of this job have used
	Ran        time.Duration `json:"ran,omitempty"`       // running time up to now
	LastLog    time.Time     `json:"last_log,omitzero"`   // newest line of the container's output that was written
	Written    [2]int64      `json:"written,omitzero"`    // bytes that the files for its output had then, stdout and stderr
	Host       string        `json:"host,omitempty"`      // of the engine that has it
	Parked     time.Time     `json:"parked,omitzero"`     // when the container was paused or told to stop by us, to go on; zero when it wasn't
	TimedOut   bool          `json:"timed_out,omitempty"` // it ran longer than its time limit, and is ended for that
	Proven     bool          `json:"proven,omitempty"`    // it has its GPUs, if it is to have any
	Checkpoint Mark          `json:"checkpoint,omitzero"` // the newest; zero for none
	Anew       bool          `json:"anew,omitempty"`      // the last checkpoint was lost, and there is none since
	Unsigned   bool          `json:"unsigned,omitempty"`  // its files were not signed when it began, whatever they are now
	Tries      int           `json:"tries,omitempty"`     // temporary exits since a container was last started
	Done       *Done         `json:"done,omitempty"`      // the job has ended; only the finish file may be missing
}

// Done is how a job ended.
type Done struct {
	Code    int    `json:"code"`
	Message string `json:"message,omitempty"`
}

const (
	episodeFile = "episode.json"
	maxEpisode  = 1 << 20 // bytes; a message for the project is the longest in it
)

// LoadEpisode reads what an earlier episode left in dir. There is none, or it can't be read: the
// zero value, which loses nothing but numbers.
func LoadEpisode(dir string) (Episode, error) {
	name := filepath.Join(dir, episodeFile)
	fi, err := os.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return Episode{}, nil
	} else if err == nil && (!fi.Mode().IsRegular() || fi.Size() > maxEpisode) { // a FIFO would hang
		err = fs.ErrInvalid
	}
	var data []byte
	if err == nil {
		data, err = os.ReadFile(name)
	}
	var e Episode
	if err == nil {
		err = json.Unmarshal(data, &e)
	}
	if err != nil {
		return Episode{}, fmt.Errorf("read %s: %w", episodeFile, err)
	}
	return e, nil
}

// Save writes it whole.
func (e Episode) Save(dir string) error {
	data, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("write %s: %w", episodeFile, err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("write %s: %w", episodeFile, err)
	}
	name := filepath.Join(dir, episodeFile)
	part := name + ".part"
	if err = writeThrough(part, data); err == nil {
		err = os.Rename(part, name)
	}
	if err != nil {
		os.Remove(part) // it may be what fills the disk
		return fmt.Errorf("write %s: %w", episodeFile, err)
	}
	return nil
}

// writeThrough writes a file to the disk: a rename may get there before the bytes, and the computer may lose power.
func writeThrough(name string, data []byte) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Sync(), f.Close())
}
