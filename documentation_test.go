package graphretry_test

import (
	"go/ast"
	"go/doc"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry"
)

// Each snippet stands, line for line, in a Go file that is compiled with the tests.
func TestReadmeSnippetsAreCompiled(t *testing.T) {
	var sources []string
	require.NoError(t, filepath.WalkDir(".", func(path string, _ fs.DirEntry, err error) error {
		if err == nil && filepath.Ext(path) == ".go" {
			sources = append(sources, linesOf(readFile(t, path)))
		}
		return err
	}))
	snippets := regexp.MustCompile("(?ms)^```go\n(.*?)^```").FindAllStringSubmatch(readFile(t, "README.md"), -1)
	require.NotEmpty(t, snippets)
	for _, snippet := range snippets {
		found := false
		for _, source := range sources {
			found = found || strings.Contains(source, linesOf(snippet[1]))
		}
		assert.True(t, found, "no Go file has these lines:\n%s", snippet[1])
	}
}

// linesOf is a text without its indentation and its empty lines.
func linesOf(text string) string {
	var lines strings.Builder
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" {
			lines.WriteString("\n" + line)
		}
	}
	return lines.String() + "\n"
}

// The table of codes begins its rows with codes and titles, "2 API Service".
func TestReadmeNamesCodesByTheirTitles(t *testing.T) {
	_, section, found := strings.Cut(readFile(t, "README.md"), "\n## What is retried\n")
	require.True(t, found)
	section, _, _ = strings.Cut(section, "\n## ")
	rows := regexp.MustCompile(`(?m)^\| (\d[^|]*) \|`).FindAllStringSubmatch(section, -1)
	require.NotEmpty(t, rows)
	for _, row := range rows {
		for name := range strings.SplitSeq(row[1], "<br>") {
			number, title, _ := strings.Cut(strings.TrimSpace(name), " ")
			code, err := strconv.Atoi(number)
			require.NoError(t, err, name)
			assert.Equal(t, graphretry.Code(code).Title(), title, "code %d", code)
		}
	}
}

func TestReadmeHasEveryOption(t *testing.T) {
	readme := readFile(t, "README.md")
	for _, option := range packageDoc(t).option {
		assert.Regexp(t, "(?m)^\\| `"+option.Name+"\\b", readme, "no row in the table of options")
	}
}

func TestEveryOptionAndTypeHasAnExample(t *testing.T) {
	documented := packageDoc(t)
	for _, option := range documented.option {
		assert.NotEmpty(t, option.Examples, option.Name)
	}
	for _, f := range documented.Funcs {
		assert.NotEmpty(t, f.Examples, f.Name)
	}
	for _, typ := range documented.Types {
		examples := typ.Examples
		for _, f := range append(typ.Funcs, typ.Methods...) {
			examples = append(examples, f.Examples...)
		}
		assert.NotEmpty(t, examples, typ.Name)
	}
	for _, example := range documented.examples {
		assert.True(t, example.Output != "" || example.EmptyOutput, "Example%s has no output, so it is not run", example.Name)
	}
}

func TestEveryExportedNameIsDocumented(t *testing.T) {
	documented := packageDoc(t)
	assert.NotEmpty(t, documented.Doc)
	values, funcs := documented.Vars, documented.Funcs
	for _, typ := range documented.Types {
		assert.NotEmpty(t, typ.Doc, typ.Name)
		values = append(append(values, typ.Consts...), typ.Vars...)
		funcs = append(append(funcs, typ.Funcs...), typ.Methods...)
		if structure, ok := typ.Decl.Specs[0].(*ast.TypeSpec).Type.(*ast.StructType); ok {
			for _, field := range structure.Fields.List {
				assert.NotNil(t, field.Doc, "%s.%s", typ.Name, field.Names)
			}
		}
	}
	for _, f := range funcs {
		assert.NotEmpty(t, f.Doc, f.Name)
	}
	for _, value := range values {
		for _, spec := range value.Decl.Specs {
			alone := len(value.Decl.Specs) == 1 && value.Doc != ""
			assert.True(t, alone || spec.(*ast.ValueSpec).Doc != nil, "%s", spec.(*ast.ValueSpec).Names)
		}
	}
}

// documentation is the package's, as go doc shows it.
type documentation struct {
	*doc.Package
	option   []*doc.Func // the functions that make an Option
	examples []*doc.Example
}

func packageDoc(t *testing.T) documentation {
	t.Helper()
	paths, err := filepath.Glob("*.go")
	require.NoError(t, err)
	var files []*ast.File
	positions := token.NewFileSet()
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") && path != "example_test.go" {
			continue
		}
		file, err := parser.ParseFile(positions, path, nil, parser.ParseComments)
		require.NoError(t, err)
		files = append(files, file)
	}
	documented := documentation{examples: doc.Examples(files...)}
	documented.Package, err = doc.NewFromFiles(positions, files, "github.com/graphretry/graphretry")
	require.NoError(t, err)
	for _, typ := range documented.Types {
		if typ.Name == "Option" {
			documented.option = typ.Funcs
		}
	}
	require.NotEmpty(t, documented.option)
	return documented
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	return string(content)
}
