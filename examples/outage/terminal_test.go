package main

import (
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestOutputThatIsNotATerminalGetsLines(t *testing.T) {
	t.Parallel()
	file, err := os.Create(filepath.Join(t.TempDir(), "out"))
	require.NoError(t, err)
	defer file.Close()
	read, write, err := os.Pipe()
	require.NoError(t, err)
	defer read.Close()
	defer write.Close()
	device, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	require.NoError(t, err)
	defer device.Close()
	for _, out := range []*os.File{file, write, device} {
		terminal := newTerminal(out, func(string) string { return "" })
		assert.False(t, terminal.colours)
		assert.IsType(t, &story{}, terminal.view(settings{}))
	}
}

func TestWindowThatIsTooSmallGetsLines(t *testing.T) {
	t.Parallel()
	for _, window := range [][2]int{{minWidth - 1, 100}, {100, minHeight - 1}} {
		terminal := &terminal{out: io.Discard, colours: true, size: sized(window[0], window[1])}
		assert.IsType(t, &story{}, terminal.view(settings{}))
	}
}
