//go:build !unix

package outbox_test

import "errors"

// There is no such signal here; the worker goes on.
func (p *process) stall() error  { return nil }
func (p *process) resume() error { return nil }

// fullDiskRole has no way to fill a disk here.
func fullDiskRole() error { return errors.ErrUnsupported }
