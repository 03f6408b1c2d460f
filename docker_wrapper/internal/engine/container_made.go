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
// outside of its mounts, at most three for each name, those below the image's WORKDIR first. It gives up after 10 s, and
// looks at no more than the first 32 MiB of the engine's list of changes: what it finds helps a person to find a mistake.
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
	found := map[string][]string{}
	note := func(file string) {
		for _, name := range names {
			if strings.EqualFold(path.Base(file), name) && !slices.Contains(found[name], file) {
				found[name] = append(found[name], file)
			}
		}
	}
	const deleted = 2 // Docker's API: 0 modified, 1 added
	dec := json.NewDecoder(io.LimitReader(body, madeBytes))
	for t, err := dec.Token(); err == nil && t == json.Delim('['); {
		for dec.More() {
			var change struct {
				Path string
				Kind int
			}
			if dec.Decode(&change) != nil {
				break
			}
			if change.Kind != deleted {
				note(change.Path)
			}
		}
		break
	}
	dir := "/"
	if in.Config != nil && in.Config.WorkingDir != "" {
		dir = path.Clean(in.Config.WorkingDir)
	}
	for _, name := range names {
		note(path.Join(dir, name)) // an image's volume is no part of the list
		slices.SortStableFunc(found[name], func(a, b string) int {
			if x, y := strings.HasPrefix(a, dir), strings.HasPrefix(b, dir); x != y {
				return map[bool]int{true: -1, false: 1}[x]
			}
			return len(a) - len(b)
		})
		files := found[name][:min(len(found[name]), 4*madeMost)]
		files = slices.DeleteFunc(files, func(file string) bool {
			st, err := c.e.api.ContainerStatPath(ctx, c.ID, file)
			return err != nil || !st.Mode.IsRegular()
		})
		found[name] = files[:min(len(files), madeMost)]
	}
	return found, nil
}
