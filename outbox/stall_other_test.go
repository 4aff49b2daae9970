//go:build !unix

package outbox_test

import "errors"

// There is no such signal on this system. The worker goes on.
func (p *process) stall() error  { return nil }
func (p *process) resume() error { return nil }

// fullDiskRole cannot fill a disk on this system.
func fullDiskRole() error { return errors.ErrUnsupported }
