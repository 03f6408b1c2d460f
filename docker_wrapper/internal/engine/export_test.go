package engine

// What the contract test must know of an engine's quirks.
func (i Info) StopUnsaid() bool   { return i.quirks.stopUnsaid }
func (i Info) OOMUnsaid() bool    { return i.quirks.oomUnsaid }
func (i Info) WholeSeconds() bool { return i.quirks.wholeSeconds }
func (i Info) Bridge() string     { return i.quirks.bridge }

// Address is where it listens, also a service of our own.
func (e *Engine) Address() string { return e.address }
