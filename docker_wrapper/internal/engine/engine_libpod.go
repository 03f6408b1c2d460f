package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/system"
	"github.com/docker/docker/client"
)

// libpod makes a GET request to Podman's own API. Close the answer.
func (e *Engine) libpod(ctx context.Context, path string, query url.Values) (io.ReadCloser, error) {
	return e.raw(ctx, http.MethodGet, libpodRoot+path, query, nil)
}

// libpodRoot is the root of Podman 4's API, which later versions keep (docs.podman.io/en/latest/_static/api.html).
const libpodRoot = "/v4.0.0/libpod"

const saidMost = 16 << 10 // bytes of an error

// raw makes a request that the SDK doesn't have. Close the answer.
func (e *Engine) raw(ctx context.Context, method, path string, query url.Values, body io.Reader) (io.ReadCloser, error) {
	host, err := client.ParseHostURL(e.address)
	if err != nil {
		return nil, err
	}
	u := url.URL{Scheme: "http", Host: host.Host, Path: path, RawQuery: query.Encode()}
	if host.Scheme != "tcp" {
		u.Host = client.DummyHost // the client's transport dials the socket
	}
	req, err := http.NewRequestWithContext(ctx, method, u.String(), body)
	if err != nil {
		return nil, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/x-tar")
	}
	resp, err := e.api.HTTPClient().Do(req)
	if err != nil {
		return nil, wrap(err)
	}
	if resp.StatusCode/100 == 2 {
		return resp.Body, nil
	}
	defer resp.Body.Close()
	var said struct{ Message string }
	if err := json.NewDecoder(io.LimitReader(resp.Body, saidMost)).Decode(&said); err != nil || said.Message == "" {
		said.Message = resp.Status
	}
	err = fmt.Errorf("ask podman for %s: %s", path, said.Message)
	if resp.StatusCode == http.StatusNotFound {
		return nil, fmt.Errorf("%w: %w", ErrNotFound, err)
	}
	return nil, wrap(err)
}

// podmanInfo is Podman's answer to Docker's info request, and whether Podman is rootless. Before version 5 only a field of
// Podman's own says so.
func (e *Engine) podmanInfo(ctx context.Context) (info system.Info, rootless bool, err error) {
	body, err := e.raw(ctx, http.MethodGet, "/v"+e.api.ClientVersion()+"/info", nil, nil)
	if err != nil {
		return system.Info{}, false, err
	}
	defer body.Close()
	var in struct {
		system.Info
		Rootless bool
	}
	if err := json.NewDecoder(body).Decode(&in); err != nil {
		return system.Info{}, false, fmt.Errorf("read podman's answer: %w", err)
	}
	return in.Info, in.Rootless, nil
}

// controllers are the control group controllers that a rootless Podman may use. Docker's info request reports those of the
// whole computer.
func (e *Engine) controllers(ctx context.Context) ([]string, error) {
	body, err := e.libpod(ctx, "/info", nil)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	var in struct {
		Host struct{ CgroupControllers []string }
	}
	if err := json.NewDecoder(body).Decode(&in); err != nil {
		return nil, fmt.Errorf("read podman's answer: %w", err)
	}
	return in.Host.CgroupControllers, nil
}

// libpodState is the part of a container's state that only Podman's own API has.
type libpodState struct {
	Status        string // "running", "paused", "exited" and others
	CgroupPath    string // below the hierarchies' roots; "" when it doesn't run
	StoppedByUser bool   // Podman 5 and newer
}

func (c *Container) libpodState(ctx context.Context) (libpodState, error) {
	body, err := c.e.libpod(ctx, "/containers/"+c.ID+"/json", nil)
	if err != nil {
		return libpodState{}, err
	}
	defer body.Close()
	var in struct{ State libpodState }
	if err := json.NewDecoder(body).Decode(&in); err != nil {
		return libpodState{}, fmt.Errorf("read podman's answer: %w", err)
	}
	return in.State, nil
}

// libpodEvents calls event for each of a container's events since then. A request in Docker's API has an end time, and
// Podman then leaves out the events shortly before it, or all.
func (c *Container) libpodEvents(ctx context.Context, since time.Time, event func(events.Message)) error {
	filters, err := json.Marshal(map[string][]string{"container": {c.ID}})
	if err != nil {
		return err
	}
	body, err := c.e.libpod(ctx, "/events", url.Values{"stream": {"false"}, "since": {since.Format(time.RFC3339Nano)}, "filters": {string(filters)}})
	if err != nil {
		return err
	}
	defer body.Close()
	for dec := json.NewDecoder(body); ; {
		var m events.Message
		if err := dec.Decode(&m); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("read podman's events: %w", err)
		}
		event(m)
	}
}

func (c *Container) inspect(ctx context.Context) (container.InspectResponse, error) {
	ctx, cancel := c.e.call(ctx)
	defer cancel()
	in, err := c.e.api.ContainerInspect(ctx, c.ID)
	return in, wrap(err)
}
