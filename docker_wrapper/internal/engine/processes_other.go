//go:build !linux

package engine

import (
	"context"

	"boincdocker/docker_wrapper/internal/job"
)

// payload is the processes of a container: here they are in a virtual machine.
type payload struct{}

func findPayload(int, string) (*payload, error) { return nil, errUnproven }
func (p *payload) lives() bool                  { return false }
func (p *payload) held(bool) bool               { return false }
func (p *payload) freeze(context.Context) error { return errNoFreezer }
func (p *payload) stop(context.Context) error   { return errUnproven }
func (p *payload) letGo() error                 { return errUnproven }
func (p *payload) usage() (job.Usage, error)    { return job.Usage{}, errUnproven }
