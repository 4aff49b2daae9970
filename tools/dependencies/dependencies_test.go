package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/tools/txtar"
)

// unpack writes a fixture to a folder of its own, and returns the folder with what the
// fixture says of its layers, and of what is wrong with it.
func unpack(t *testing.T, fixture string) (folder string, layers [][]string, want string) {
	t.Helper()
	archive, err := txtar.ParseFile(fixture)
	require.NoError(t, err)
	folder = t.TempDir()
	for _, file := range archive.Files {
		switch file.Name {
		case "layers":
			for layer := range strings.FieldsSeq(string(file.Data)) {
				layers = append(layers, strings.Split(layer, ","))
			}
		case "want":
			want = string(file.Data)
		default:
			path := filepath.Join(folder, filepath.FromSlash(file.Name))
			require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o777))
			require.NoError(t, os.WriteFile(path, file.Data, 0o666))
		}
	}
	return folder, layers, want
}

func TestCirclesAndImportsUpwardAreFound(t *testing.T) {
	t.Setenv("GOWORK", "off")
	fixtures, err := filepath.Glob("testdata/*.txtar")
	require.NoError(t, err)
	require.NotEmpty(t, fixtures)
	for _, fixture := range fixtures {
		t.Run(filepath.Base(fixture), func(t *testing.T) {
			folder, layers, want := unpack(t, fixture)
			found, err := check(folder, layers)
			require.NoError(t, err)
			var got strings.Builder
			for _, one := range found {
				got.WriteString(one + "\n")
			}
			assert.Equal(t, want, got.String())
		})
	}
}

func TestEveryPackageIsInOneLayer(t *testing.T) {
	t.Setenv("GOWORK", "off")
	folder, _, _ := unpack(t, "testdata/clean.txtar")
	for want, layers := range map[string][][]string{
		"example.com/clean/internal/b is in no layer: want it in one":                        {{"."}, {"./internal/a"}, {"./internal/c"}},
		"example.com/clean is in two layers: want it in one":                                 {{"."}, {"./internal/a", "./internal/b"}, {"./internal/c", "."}},
		"example.com/clean/internal/d is in a layer, and is no package of this module":       {{"."}, {"./internal/a", "./internal/b"}, {"./internal/c", "./internal/d"}},
		"example.com/clean/internal/missing is in a layer, and is no package of this module": {{".", "./internal/missing"}, {"./internal/a", "./internal/b"}, {"./internal/c"}},
	} {
		_, err := check(folder, layers)
		assert.EqualError(t, err, want)
	}
}

func TestWhatDoesNotCompileIsAnError(t *testing.T) {
	t.Setenv("GOWORK", "off")
	folder, layers, _ := unpack(t, "testdata/clean.txtar")
	require.NoError(t, os.WriteFile(filepath.Join(folder, "broken.go"), []byte("package clean\n\nvar broken int = missing\n"), 0o666))
	_, err := check(folder, layers)
	assert.ErrorContains(t, err, "undefined: missing")

	_, err = check(t.TempDir(), [][]string{{"."}})
	assert.Error(t, err, "a folder without a module")
}
