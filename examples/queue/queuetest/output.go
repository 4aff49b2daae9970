package queuetest

import (
	"bytes"
	"sync"
)

// Output is what a program has written. Several goroutines may write at once.
type Output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write adds to the text. It never fails.
func (o *Output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(b)
}

func (o *Output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}
