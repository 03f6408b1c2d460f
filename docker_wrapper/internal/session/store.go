package session

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"boincdocker/docker_wrapper/internal/engine"
	"boincdocker/docker_wrapper/internal/job"
)

// Episode is what the next episode must know and can't learn from the engine or the slot's files.
type Episode struct {
	Container  string            `json:"container,omitempty"` // ID of the container for which CPUBase holds
	Boot       string            `json:"boot,omitempty"`      // ID of the boot when it was last started
	CPUBase    time.Duration     `json:"cpu_base,omitempty"`  // CPU time of earlier containers of this job
	Ran        time.Duration     `json:"ran,omitempty"`       // running time up to now
	LastLog    time.Time         `json:"last_log,omitzero"`   // time of the newest line of its output that was written
	Written    [2]int64          `json:"written,omitzero"`    // bytes that the files for its output had then, stdout and stderr
	Host       string            `json:"host,omitempty"`      // of the engine that has it
	Parked     time.Time         `json:"parked,omitzero"`     // when the wrapper paused it or told it to stop; zero if it didn't
	TimedOut   bool              `json:"timed_out,omitempty"` // the job exceeded its time limit, and the container is killed
	Proven     bool              `json:"proven,omitempty"`    // its GPUs were found in it
	Checkpoint job.Mark          `json:"checkpoint,omitzero"` // the newest; zero for none
	Anew       bool              `json:"anew,omitempty"`      // the last checkpoint was lost, and there is none since
	Unsigned   bool              `json:"unsigned,omitempty"`  // the job's files were not signed when it began
	Tries      int               `json:"tries,omitempty"`     // temporary exits since the job last ran for 10 minutes
	Lost       map[string]string `json:"lost,omitempty"`      // why outputs can't be delivered, by their logical names; the payload is gone
	Copied     *Copied           `json:"copied,omitempty"`    // the outputs were copied out of the ended container
	Done       *Done             `json:"done,omitempty"`      // the job has ended; only the finish file may be missing
}

// lose adds outputs that can't be delivered.
func (e *Episode) lose(lost map[string]string) {
	all := maps.Clone(e.Lost) // the map is shared with what Store.Episode has returned
	if all == nil {
		all = map[string]string{}
	}
	maps.Copy(all, lost)
	e.Lost = all
}

// Copied is what came of the copies out of a container. They are made once.
type Copied struct {
	Faults engine.CopyErrors `json:"faults,omitempty"` // those that weren't possible
}

// Done is how a job ended.
type Done struct {
	Code    int    `json:"code"`
	Message string `json:"message,omitempty"`
}

const (
	episodeFile = "episode.json"
	maxEpisode  = 1 << 20 // bytes; the longest part is the message for the project
)

// Store keeps the episode, and writes it into the wrapper's directory in the slot, which the container can't reach. All
// methods may be called from any goroutine.
type Store struct {
	dir string // "" if nothing is written: standalone there is no next episode

	mu      sync.Mutex // guards what follows
	episode Episode
}

// OpenStore reads the episode file in dir. If there is none, or it can't be read, the store begins empty. The store is
// never nil, also if there is an error.
func OpenStore(dir string) (*Store, error) {
	s := &Store{dir: dir}
	if dir == "" {
		return s, nil
	}
	var err error
	s.episode, err = readEpisode(dir)
	return s, err
}

// Episode returns the current episode.
func (s *Store) Episode() Episode {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.episode
}

// Change lets f change the episode, and writes the file. f must not call the store.
func (s *Store) Change(f func(*Episode)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(&s.episode)
	if s.dir == "" {
		return nil
	}
	return writeEpisode(s.dir, s.episode)
}

// Note is Change where a failure loses nothing but work.
func (s *Store) Note(log zerolog.Logger, f func(*Episode)) {
	if err := s.Change(f); err != nil {
		log.Warn().Err(err).Msg("cannot save the episode file; the next start may repeat work")
	}
}

func readEpisode(dir string) (Episode, error) {
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

func writeEpisode(dir string, e Episode) error {
	err := os.MkdirAll(dir, 0o700)
	if err == nil {
		err = writeJSON(filepath.Join(dir, episodeFile), e)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", episodeFile, err)
	}
	return nil
}
