package graphretry_test

import (
	"cmp"
	"context"
	"go/ast"
	"go/doc"
	"go/parser"
	"go/token"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/graphtest"
)

// Each snippet stands, line for line, in a Go file that is compiled with the tests.
func TestSnippetsOfReadmeAndGuideAreCompiled(t *testing.T) {
	var sources []string
	require.NoError(t, filepath.WalkDir(".", func(path string, _ fs.DirEntry, err error) error {
		if err == nil && filepath.Ext(path) == ".go" {
			sources = append(sources, linesOf(readFile(t, path)))
		}
		return err
	}))
	snippets := regexp.MustCompile("(?ms)^```go\n(.*?)^```").FindAllStringSubmatch(readFile(t, "README.md")+readFile(t, "docs/guide.md")+readFile(t, "graphtest/README.md"), -1)
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

// Meta ends a version of its API some two years after it came out. So there is one in this
// tree, graphtest.APIVersion, but where a test is about another.
func TestEveryFileNamesTheNewestVersionOfTheAPI(t *testing.T) {
	others := map[string]string{ // the version that a test is about, by its file
		"graphtest/graph_test.go":       "19",
		"internal/outage/paths_test.go": "24",
	}
	version := regexp.MustCompile(`\bv([1-9][0-9])\.0(?:[^.\w]|$)`)
	require.NoError(t, filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || skipped(entry) {
			return cmp.Or(err, filepath.SkipDir)
		}
		if !slices.Contains([]string{".go", ".html", ".json", ".md", ".sql", ".txt", ".yaml", ".yml"}, filepath.Ext(path)) {
			return nil
		}
		path = filepath.ToSlash(path)
		seen := false
		for _, named := range version.FindAllStringSubmatch(readFile(t, path), -1) {
			other := named[1] == others[path]
			assert.True(t, other || "v"+named[1]+".0" == graphtest.APIVersion, "%s names version %s: want %s", path, named[1], graphtest.APIVersion)
			seen = seen || other
		}
		assert.Equal(t, others[path] != "", seen, "%s is said to be about version %s", path, others[path])
		return nil
	}))
}

// What a README says is what the go.mod beside it says, or that above it.
func TestEveryReadmeNamesTheGoThatItsModuleNeeds(t *testing.T) {
	said := regexp.MustCompile(`Go (\d+\.\d+) or newer`)
	checked := 0
	require.NoError(t, filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || skipped(entry) {
			return cmp.Or(err, filepath.SkipDir)
		}
		folder := filepath.Dir(path)
		if entry.Name() != "README.md" || folder != "graphtest" && !exists(filepath.Join(folder, "go.mod")) {
			return nil
		}
		checked++
		mod := filepath.Join(folder, "go.mod")
		if !exists(mod) {
			mod = "go.mod"
		}
		want := neededGo(t, mod)
		found := said.FindAllStringSubmatch(readFile(t, path), -1)
		assert.NotEmpty(t, found, "%s: want that it needs Go %s or newer", path, want)
		for _, version := range found {
			assert.Equal(t, want, version[1], path)
		}
		return nil
	}))
	assert.GreaterOrEqual(t, checked, 12)
}

func TestContributingListsEveryModuleWithTheGoThatItNeeds(t *testing.T) {
	listed := map[string]string{}
	for _, row := range regexp.MustCompile(`(?m)^\| (the root.*|`+"`.*`"+`) \| (\d+\.\d+) \|$`).FindAllStringSubmatch(readFile(t, "CONTRIBUTING.md"), -1) {
		for module := range strings.SplitSeq(row[1], ", ") {
			listed[strings.Trim(module, "`")] = row[2]
		}
	}
	modules := map[string]string{}
	require.NoError(t, filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || skipped(entry) {
			return cmp.Or(err, filepath.SkipDir)
		}
		if entry.Name() == "go.mod" {
			folder := strings.Replace(filepath.ToSlash(filepath.Dir(path)), ".", "the root", 1)
			modules[folder] = neededGo(t, path)
		}
		return nil
	}))
	assert.Equal(t, modules, listed)
}

// neededGo returns the Go that a go.mod asks for, as in "1.25".
func neededGo(t *testing.T, mod string) string {
	t.Helper()
	needed := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindStringSubmatch(readFile(t, mod))
	require.NotNil(t, needed, mod)
	return needed[1]
}

// skipped reports whether a folder has nothing of ours.
func skipped(entry fs.DirEntry) bool {
	return entry.IsDir() && slices.Contains([]string{".git", "bin", "node_modules"}, entry.Name())
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func TestReadmeHasEveryOption(t *testing.T) {
	rows := readmeOptions(t)
	options := packageDoc(t, ".").option
	require.NotEmpty(t, options)
	for _, option := range options {
		_, found := rows[option.Name]
		assert.True(t, found, "%s has no row in the table of options", option.Name)
	}
}

// What no context may have is told in three places, and they agree.
func TestOptionsThatCannotBeSetInAContextAreMarked(t *testing.T) {
	options := map[string]graphretry.Option{
		"WithInitialInterval": graphretry.WithInitialInterval(time.Second),
		"WithMultiplier":      graphretry.WithMultiplier(2),
		"WithMaxInterval":     graphretry.WithMaxInterval(time.Minute),
		"WithMaxElapsedTime":  graphretry.WithMaxElapsedTime(time.Minute),
		"WithMaxRetries":      graphretry.WithMaxRetries(1),
		"WithJitter":          graphretry.WithJitter(0),
		"WithBackOff":         graphretry.WithBackOff(func() backoff.BackOff { return &backoff.StopBackOff{} }),
		"WithRetryOn":         graphretry.WithRetryOn(1, 1),
		"WithoutRetryOn":      graphretry.WithoutRetryOn(1),
		"WithThrottleRetries": graphretry.WithThrottleRetries(),
		"WithTransientFlag":   graphretry.WithTransientFlag(),
		"WithNetworkRetries":  graphretry.WithNetworkRetries(),
		"WithHosts":           graphretry.WithHosts("127.0.0.1"),
		"WithMaxBufferedBody": graphretry.WithMaxBufferedBody(1),
		"WithoutWaiting":      graphretry.WithoutWaiting(),
		"WithAttemptTimeout":  graphretry.WithAttemptTimeout(time.Second),
		"WithOutageThreshold": graphretry.WithOutageThreshold(1),
		"WithLogger":          graphretry.WithLogger(slog.Default()),
		"WithObserver":        graphretry.WithObserver(func(context.Context, graphretry.Event) {}),
	}
	documented, rows := packageDoc(t, "."), readmeOptions(t)
	require.NotEmpty(t, documented.option)
	var listed string
	for _, f := range documented.Funcs {
		if f.Name == "ContextWithOptions" {
			listed = f.Doc
		}
	}
	transport := newTransport(t, script(success))
	for _, option := range documented.option {
		opt, found := options[option.Name]
		if !assert.True(t, found, "%s is to be tried here", option.Name) {
			continue
		}
		_, err := transport.RoundTrip(message(t, graphretry.ContextWithOptions(t.Context(), opt)))
		refused := err != nil
		assert.Equal(t, refused, strings.Contains(strings.Join(strings.Fields(option.Doc), " "), "It cannot be set in a context."), "%s: its comment", option.Name)
		assert.Equal(t, refused, strings.Contains(rows[option.Name], "` * |"), "%s: the * in the README's table", option.Name)
		assert.Equal(t, refused, strings.Contains(listed, "["+option.Name+"]"), "%s: the comment of ContextWithOptions", option.Name)
	}
}

func TestEveryOptionAndTypeHasAnExample(t *testing.T) {
	for _, folder := range []string{".", "graphtest"} {
		t.Run(folder, func(t *testing.T) { testExamples(t, packageDoc(t, folder)) })
	}
}

func testExamples(t *testing.T, documented documentation) {
	t.Helper()
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
	for _, folder := range []string{".", "graphtest", "internal/jsonbody", "internal/netfail", "internal/outage", "internal/redact"} {
		t.Run(folder, func(t *testing.T) { testComments(t, packageDoc(t, folder)) })
	}
}

func testComments(t *testing.T, documented documentation) {
	t.Helper()
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

// readmeOptions are the rows of the README's table of options, by the option's
// name.
func readmeOptions(t *testing.T) map[string]string {
	t.Helper()
	rows := make(map[string]string)
	for _, row := range regexp.MustCompile("(?m)^\\| `(With\\w+)\\(.*$").FindAllStringSubmatch(readFile(t, "README.md"), -1) {
		rows[row[1]] = row[0]
	}
	require.NotEmpty(t, rows)
	return rows
}

func packageDoc(t *testing.T, folder string) documentation {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(folder, "*.go"))
	require.NoError(t, err)
	var files []*ast.File
	positions := token.NewFileSet()
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") && !strings.HasPrefix(filepath.Base(path), "example_") {
			continue
		}
		file, err := parser.ParseFile(positions, path, nil, parser.ParseComments)
		require.NoError(t, err)
		files = append(files, file)
	}
	documented := documentation{examples: doc.Examples(files...)}
	documented.Package, err = doc.NewFromFiles(positions, files, path.Join("github.com/graphretry/graphretry", folder))
	require.NoError(t, err)
	for _, typ := range documented.Types {
		if typ.Name == "Option" {
			documented.option = typ.Funcs
		}
	}
	return documented
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	return string(content)
}
