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

// TestPicture draws the picture of an outage, for -picture where it is wanted.
func TestPicture(t *testing.T) {
	s := scenario{rate: 50, send: 8 * time.Minute, down: 3 * time.Minute}
	var picture bytes.Buffer
	require.NoError(t, drawOutage(&picture, s, s.runInBubble(t, plain), s.runInBubble(t, ours)))

	decoder := xml.NewDecoder(bytes.NewReader(picture.Bytes()))
	lines, words := 0, ""
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
			words += string(token)
		}
	}
	require.Greater(t, lines, 2)
	for _, word := range []string{"plain backoff", "graphretry", "the API is down", "minutes", "calls a second"} {
		require.Contains(t, words, word)
	}
	if *pictureFile != "" {
		require.NoError(t, os.MkdirAll(filepath.Dir(*pictureFile), 0o755))
		require.NoError(t, os.WriteFile(*pictureFile, picture.Bytes(), 0o644))
	}
}
