package bench

import (
	"bytes"
	"encoding/xml"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestPictures draws an outage and an overload, and writes them to the folder of -pictures.
func TestPictures(t *testing.T) {
	outage := scenario{rate: 50, send: 8 * time.Minute, down: 3 * time.Minute}
	testPicture(t, "outage.svg", outagePicture(outage, outage.runInBubble(t, plain), outage.runInBubble(t, ours)),
		"plain backoff", "graphretry", "the API is down", "minutes", "calls a second")
	overload := scenario{rate: 50, send: 12 * time.Minute, down: time.Minute, capacity: 60}
	if *pictures == "" {
		overload.send = 4 * time.Minute // nobody will look at it
	}
	testPicture(t, "overload.svg",
		overloadPicture(overload, overload.runInBubble(t, plain), overload.runInBubble(t, breaker), overload.runInBubble(t, ours)),
		"plain backoff", "breaker", "graphretry", "down", "minutes", "served a second")
}

func testPicture(t *testing.T, name string, picture picture, words ...string) {
	t.Helper()
	var drawn bytes.Buffer
	require.NoError(t, picture.draw(&drawn))
	decoder := xml.NewDecoder(bytes.NewReader(drawn.Bytes()))
	lines, written := 0, ""
	for {
		token, err := decoder.Token()
		if err == io.EOF {
			break
		}
		require.NoError(t, err, "it must be well-formed XML")
		switch token := token.(type) {
		case xml.StartElement:
			if token.Name.Local == "path" {
				lines++
			}
		case xml.CharData:
			written += string(token)
		}
	}
	require.Greater(t, lines, len(picture.lines))
	for _, word := range words {
		require.Contains(t, written, word)
	}
	if *pictures != "" {
		require.NoError(t, os.MkdirAll(*pictures, 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(*pictures, name), drawn.Bytes(), 0o644))
	}
}
