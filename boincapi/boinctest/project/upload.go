package project

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strconv"
)

// upload takes an output file, or says how much of it is there already.
//
// Format: sched/file_upload_handler.cpp in BOINC.
func (s *Server) upload(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	head, data, isFile := bytes.Cut(body, []byte("<data>\n"))
	request := string(head)
	if !isFile {
		s.mu.Lock()
		size := len(s.uploads[element(request, "get_file_size")])
		s.mu.Unlock()
		answer(w, fmt.Sprintf("<status>0</status>\n<file_size>%d</file_size>\n", size))
		return
	}
	name := element(request, "name")
	offset, err := strconv.Atoi(element(request, "offset"))
	if err != nil {
		offset = 0
	}
	var problem string
	s.change(func() {
		have := s.uploads[name]
		if offset > len(have) {
			problem = "there is less of it here"
			return
		}
		whole := append(bytes.Clone(have[:offset]), data...)
		if size := int(number(request, "nbytes")); len(whole) != size {
			problem = fmt.Sprintf("%d bytes arrived, want %d", len(whole), size)
			return
		}
		if want := element(request, "md5_cksum"); want != "" && want != sum(whole) {
			problem = "its checksum is another"
			return
		}
		s.uploads[name] = whole
	})
	if problem != "" {
		answer(w, "<status>1</status>\n<message>"+esc(name+": "+problem)+"</message>\n") // 1: try again
		return
	}
	answer(w, "<status>0</status>\n")
}

func answer(w io.Writer, text string) {
	fmt.Fprintf(w, "<data_server_reply>\n%s</data_server_reply>\n", text)
}
