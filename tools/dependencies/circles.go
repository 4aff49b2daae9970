package main

import (
	"fmt"
	"go/ast"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/tools/go/packages"
)

// uses has the files that a file uses, and for each of them a name by which it does.
type uses map[string]map[string]string

// circles returns the circles of files in a package: for each file in one the shortest that
// leads through it.
func circles(p *packages.Package) []string {
	graph := usesOf(p)
	seen := make(map[string]bool)
	var found []string
	for _, file := range slices.Sorted(maps.Keys(graph)) {
		circle := graph.shortestCircle(file)
		files := slices.Sorted(slices.Values(circle))
		if key := strings.Join(files, " "); circle != nil && !seen[key] {
			seen[key] = true
			found = append(found, graph.text(circle))
		}
	}
	return found
}

func usesOf(p *packages.Package) uses {
	graph := make(uses)
	for _, syntax := range p.Syntax {
		file := filepath.Base(p.Fset.Position(syntax.FileStart).Filename)
		graph[file] = make(map[string]string)
		ast.Inspect(syntax, func(node ast.Node) bool {
			identifier, ok := node.(*ast.Ident)
			if !ok {
				return true
			}
			object := p.TypesInfo.Uses[identifier]
			if object == nil || object.Pkg() != p.Types {
				return true
			}
			other := filepath.Base(p.Fset.Position(object.Pos()).Filename)
			if _, known := graph[file][other]; other != file && !known {
				graph[file][other] = object.Name()
			}
			return true
		})
	}
	return graph
}

// shortestCircle returns the files of the shortest circle through first, or nil.
func (u uses) shortestCircle(first string) []string {
	from := make(map[string]string) // by which file each was reached
	for queue := []string{first}; len(queue) > 0; queue = queue[1:] {
		file := queue[0]
		for _, used := range slices.Sorted(maps.Keys(u[file])) {
			if used == first {
				circle := []string{file}
				for file != first {
					file = from[file]
					circle = append(circle, file)
				}
				slices.Reverse(circle)
				return circle
			}
			if _, reached := from[used]; !reached {
				from[used] = file
				queue = append(queue, used)
			}
		}
	}
	return nil
}

// text returns the circle as a.go → b.go → a.go, and a line for each arrow.
func (u uses) text(circle []string) string {
	text := strings.Join(circle, " → ") + " → " + circle[0]
	for i, file := range circle {
		next := circle[(i+1)%len(circle)]
		text += fmt.Sprintf("\n\t%s uses %s of %s", file, u[file][next], next)
	}
	return text
}
