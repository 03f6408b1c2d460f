package job

import (
	"cmp"
	"path/filepath"
	"slices"
	"time"
)

const (
	defaultImagesGB   = 20
	defaultImagesDays = 30

	// imagesRecord lies beside the projects' directories and in none of them: a project chooses the names
	// of its files, and who writes the record says which of the owner's images go. There it also outlives
	// a project that is detached.
	imagesRecord = ".docker_wrapper_images.json"

	// What another wrapper found a moment ago has no container yet that would protect it.
	collectGrace = time.Hour
	hurryGrace   = time.Minute
)

// Collect says what becomes of the images that wrappers of a data directory got.
type Collect struct {
	Record string  `json:"record"` // host path: where they are noted
	Days   float64 `json:"days"`   // unused for longer, an image goes
	Bytes  int64   `json:"bytes"`  // that all may have together; beyond it those go first that are unused longest
}

// Got is an image that a wrapper built, loaded or pulled, or is about to.
type Got struct {
	Host   string    `json:"host"`             // the engine
	Name   string    `json:"name,omitempty"`   // what it is found by: content tag, archive tag or reference; "" for a step of a build that came to nothing
	Names  []string  `json:"names,omitempty"`  // further tags, oldest first
	ID     string    `json:"id,omitempty"`     // "" while it is being made
	Made   bool      `json:"made,omitempty"`   // a wrapper saw the ID when it had got it; else it may only be removed
	Layers []Layer   `json:"layers,omitempty"` // those with something in them
	Used   time.Time `json:"used"`             // last time that a job wanted it
}

// Layer is a part of an image that others may share.
type Layer struct {
	ID   string `json:"id"`   // the same where all below it is the same, too
	Size int64  `json:"size"` // bytes
}

// Choose returns the images that are removed, longest unused first. In a hurry, because the disk is
// full, it is all that may go. Layers that images share are counted once.
func (c Collect) Choose(images []Got, now time.Time, hurry bool) []Got {
	images = slices.SortedStableFunc(slices.Values(images), func(a, b Got) int { return a.Used.Compare(b.Used) })
	images = slices.DeleteFunc(images, func(g Got) bool { return g.ID == "" })
	total, users := int64(0), map[Layer]int{}
	for _, g := range images {
		for _, l := range g.Layers {
			if users[l]++; users[l] == 1 {
				total += l.Size
			}
		}
	}
	var gone []Got
	for _, g := range images {
		idle := now.Sub(g.Used)
		switch {
		case hurry && idle >= hurryGrace:
		case idle >= collectGrace && (idle.Hours() > 24*c.Days || total > c.Bytes):
		default:
			continue
		}
		gone = append(gone, g)
		for _, l := range g.Layers {
			if users[l]--; users[l] == 0 {
				total -= l.Size
			}
		}
	}
	return gone
}

// planCollect is nil where there is no client: what a person made stays.
func planCollect(in Input) *Collect {
	if in.Init == nil || in.Init.BoincDir == "" {
		return nil
	}
	const most = 1e9 // GB, and more days than will be
	gb, days := float64(defaultImagesGB), float64(defaultImagesDays)
	gb, days = *cmp.Or(in.Policy.ImagesGB, &gb), *cmp.Or(in.Policy.ImagesDays, &days)
	return &Collect{
		Record: filepath.Join(in.Init.BoincDir, "projects", imagesRecord),
		Days:   min(days, most),
		Bytes:  int64(min(gb, most) * 1e9),
	}
}
