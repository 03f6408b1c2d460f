// Package project plays a BOINC project's server, so that real clients can attach to it, fetch signed
// app versions and jobs, and report what came of them. It keeps everything in memory.
package project

import (
	"context"
	"crypto/rsa"
	"fmt"
	"html"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

// File is an app version's or a workunit's. Names mustn't need escaping in XML or URLs.
type File struct {
	Physical   string // unique in the project for ever
	Logical    string // in the slot; "" means none, as for the main program
	Data       []byte
	Copy       bool // a copy in the slot in place of a link
	Executable bool
}

// Version is an app version for one platform. Its first file is the main program.
type Version struct {
	App        string
	Number     int // 101 is 1.01
	Platform   string
	PlanClass  string
	APIVersion string // "" means none: such an app is given a System V segment
	Files      []File // signed
}

// Job is a workunit with one result.
type Job struct {
	Result      string // its name; the workunit's is the same without "_0"
	CommandLine string
	Inputs      []File   // not signed
	Outputs     []string // logical names, all of the "copy" kind
}

// Report is what a client said of a job when it was over.
type Report struct {
	Result        string
	State         int // RESULT_* in BOINC's lib/common_defs.h: 3 compute error, 5 uploaded, 6 aborted
	ExitStatus    int
	CPU, Elapsed  float64           // s
	Stderr        string            // what the client made of stderr.txt, its own remarks included
	Outputs       map[string][]byte // uploaded files by logical name
	ClientVersion string            // such as "7.20.5"
	At            time.Time
}

// The states of a result that is over.
const (
	ComputeError = 3
	Uploaded     = 5
	Aborted      = 6
)

// Server is the project's server: its handler serves everything below the master URL.
type Server struct {
	url string
	key *rsa.PrivateKey

	mu       sync.Mutex
	changed  chan struct{} // closed when something below has changed
	versions []Version
	waiting  []Job // to be handed out
	jobs     map[string]Job
	files    map[string]File
	uploads  map[string][]byte // by physical name
	reports  map[string]Report
	requests []string
}

// New makes a server whose clients attach to masterURL, which ends in "/".
func New(masterURL string) (*Server, error) {
	u, err := url.Parse(masterURL)
	if err != nil || !strings.HasSuffix(u.Path, "/") {
		return nil, fmt.Errorf("master URL %q: want one that ends in /", masterURL)
	}
	key, err := newKey()
	if err != nil {
		return nil, err
	}
	return &Server{
		url: masterURL, key: key, changed: make(chan struct{}),
		jobs: map[string]Job{}, files: map[string]File{}, uploads: map[string][]byte{}, reports: map[string]Report{},
	}, nil
}

// URL is the master URL.
func (s *Server) URL() string { return s.url }

// Dir is what clients call the project's directory.
//
// Source: escape_project_url in BOINC's lib/url.cpp.
func (s *Server) Dir() string {
	_, rest, _ := strings.Cut(s.url, "://")
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune(".-_", r) {
			return r
		}
		return '_'
	}, strings.TrimSuffix(rest, "/"))
}

// AddVersion offers an app version to clients of its platform. The newest one added is used.
func (s *Server) AddVersion(v Version) {
	s.change(func() {
		s.versions = append([]Version{v}, s.versions...)
		for _, f := range v.Files {
			s.files[f.Physical] = f
		}
	})
}

// Add offers a job to the next client that asks for anything at all.
func (s *Server) Add(j Job) {
	s.change(func() {
		s.jobs[j.Result] = j
		s.waiting = append(s.waiting, j)
		for _, f := range j.Inputs {
			s.files[f.Physical] = f
		}
	})
}

// Report waits for a client to report the result.
func (s *Server) Report(ctx context.Context, result string) (Report, error) {
	var r Report
	err := s.wait(ctx, func() (ok bool) { r, ok = s.reports[result]; return ok })
	if err != nil {
		return r, fmt.Errorf("wait for the report of %s: %w", result, err)
	}
	return r, nil
}

// Sent waits until a job has been handed out.
func (s *Server) Sent(ctx context.Context, result string) error {
	err := s.wait(ctx, func() bool {
		return !slices.ContainsFunc(s.waiting, func(j Job) bool { return j.Result == result })
	})
	if err != nil {
		return fmt.Errorf("wait for a client to fetch %s: %w", result, err)
	}
	return nil
}

// Uploads is how many output files of the result have arrived.
func (s *Server) Uploads(result string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for i := range s.jobs[result].Outputs {
		if _, ok := s.uploads[outputName(result, i)]; ok {
			n++
		}
	}
	return n
}

// Requests are the scheduler requests so far, oldest first.
func (s *Server) Requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}

func (s *Server) change(do func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	do()
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *Server) wait(ctx context.Context, ok func() bool) error {
	for {
		s.mu.Lock()
		done, changed := ok(), s.changed
		s.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Where things are, relative to the master URL.
const (
	schedulerPath = "scheduler"
	uploadPath    = "upload"
	downloadPath  = "download/"
)

// ServeHTTP answers a client.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	master, err := url.Parse(s.url)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	path, ok := strings.CutPrefix(r.URL.Path, master.Path)
	name, download := strings.CutPrefix(path, downloadPath)
	switch {
	case !ok:
		http.NotFound(w, r)
	case path == "":
		fmt.Fprintf(w, "<html><body>\n<!--\n<scheduler>%s</scheduler>\n-->\n<h1>Test</h1></body></html>\n", s.url+schedulerPath)
	case path == schedulerPath && r.Method == http.MethodPost:
		s.schedule(w, r)
	case path == uploadPath && r.Method == http.MethodPost:
		s.upload(w, r)
	case download:
		s.download(w, r, name)
	default:
		http.NotFound(w, r)
	}
}

func (s *Server) download(w http.ResponseWriter, r *http.Request, name string) {
	s.mu.Lock()
	f, ok := s.files[name]
	s.mu.Unlock()
	if !ok {
		http.NotFound(w, r)
		return
	}
	http.ServeContent(w, r, "", time.Time{}, strings.NewReader(string(f.Data)))
}

// outputName is the physical name of a result's nth output file.
func outputName(result string, n int) string { return fmt.Sprintf("%s_r1_%d", result, n) }

func esc(s string) string { return html.EscapeString(s) }
