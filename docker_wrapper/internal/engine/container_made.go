package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path"
	"slices"
	"strings"
	"time"
)

const (
	madeTime  = 10 * time.Second // for the whole search
	madeBytes = 32 << 20         // of the engine's list of changes: about 300,000 files
	madeMost  = 3                // paths per name
)

// FindMade finds files of an ended container by their base names, in any case, among those that the job made or changed
// outside of its mounts and volumes, at most three for each name, those below the image's WORKDIR first. It gives up
// after 10 s, and looks at no more than the first 32 MiB of the engine's list of changes: what it finds helps a person to
// find a mistake.
//
// It asks for nothing but the list. To look at a file Docker mounts the container's mounts, whose sources may be gone.
func (c *Container) FindMade(ctx context.Context, names []string) (map[string][]string, error) {
	ctx, cancel := context.WithTimeout(ctx, madeTime)
	defer cancel()
	in, err := c.inspect(ctx)
	if err != nil {
		return nil, err
	}
	body, err := c.e.raw(ctx, http.MethodGet, "/v"+c.e.api.ClientVersion()+"/containers/"+c.ID+"/changes", nil, nil)
	if err != nil {
		return nil, fmt.Errorf("list what container %s changed: %w", c.Name, err)
	}
	defer body.Close()
	found, parents := map[string][]string{}, map[string]bool{}
	const deleted = 2 // Docker's API: 0 modified, 1 added
	dec := json.NewDecoder(io.LimitReader(body, madeBytes))
	t, err := dec.Token()
	for err == nil && t == json.Delim('[') && dec.More() {
		var change struct {
			Path string
			Kind int
		}
		if dec.Decode(&change) != nil {
			break
		}
		for _, name := range names {
			if strings.EqualFold(path.Base(change.Path), name) && change.Kind != deleted {
				found[name] = append(found[name], change.Path)
			} else if strings.EqualFold(path.Base(path.Dir(change.Path)), name) {
				parents[path.Dir(change.Path)] = true
			}
		}
	}
	below := func(string) bool { return false }
	if in.Config != nil && in.Config.WorkingDir != "" {
		dir := strings.TrimSuffix(path.Clean(in.Config.WorkingDir), "/") + "/"
		below = func(file string) bool { return strings.HasPrefix(file, dir) }
	}
	for name, files := range found {
		files = slices.DeleteFunc(files, func(file string) bool { return parents[file] }) // a directory
		slices.SortStableFunc(files, func(a, b string) int {
			switch x, y := below(a), below(b); {
			case x && !y:
				return -1
			case y && !x:
				return 1
			}
			return len(a) - len(b)
		})
		found[name] = files[:min(len(files), madeMost)]
	}
	return found, nil
}
