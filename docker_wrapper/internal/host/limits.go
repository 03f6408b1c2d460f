package host

// Limit is the most of something that a process may have. Name is the engines' ("nofile", "nproc"); -1 is unlimited.
type Limit struct {
	Name string
	Max  int64
}
