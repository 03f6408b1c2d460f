//go:build !linux

package host

import (
	"context"
	"time"
)

// Payload is the processes of a container. None are found.
type Payload struct{}

// FindPayload returns ErrUnproven.
func FindPayload(int, string) (*Payload, error) { return nil, ErrUnproven }

// Alive reports false.
func (p *Payload) Alive() bool { return false }

// Groups returns none.
func (p *Payload) Groups() Groups { return nil }

// Held reports false.
func (p *Payload) Held(bool) bool { return false }

// Freeze returns ErrNoFreezer.
func (p *Payload) Freeze(context.Context) error { return ErrNoFreezer }

// Stop returns ErrUnproven.
func (p *Payload) Stop(context.Context) error { return ErrUnproven }

// Continue returns ErrUnproven.
func (p *Payload) Continue() error { return ErrUnproven }

// Usage returns ErrUnproven.
func (p *Payload) Usage() (cpu time.Duration, memory int64, err error) { return 0, 0, ErrUnproven }

// GroupsOf finds none.
func GroupsOf(int, string) Groups { return Groups{} }
