package main

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"golang.org/x/tools/go/packages"
)

// check returns what is wrong with the dependencies of the module in folder, a text each.
// The error is about what cannot be loaded, or is in no layer or in two.
func check(folder string, layers [][]string) ([]string, error) {
	config := &packages.Config{
		Dir: folder,
		Mode: packages.NeedName | packages.NeedFiles | packages.NeedImports | packages.NeedDeps | packages.NeedModule |
			packages.NeedSyntax | packages.NeedTypes | packages.NeedTypesInfo,
	}
	loaded, err := packages.Load(config, slices.Concat([]string{".", "./internal/..."}, slices.Concat(layers...))...)
	if err != nil {
		return nil, err
	}
	// A pattern that fits nothing, as ./internal/... does where there is none, is a package
	// without a module and without files.
	loaded = slices.DeleteFunc(loaded, func(p *packages.Package) bool { return p.Module == nil || len(p.GoFiles) == 0 })
	if len(loaded) == 0 {
		return nil, fmt.Errorf("%s is not the folder of a module with a package", folder)
	}
	slices.SortFunc(loaded, func(a, b *packages.Package) int { return strings.Compare(a.PkgPath, b.PkgPath) })
	layerOf := make(map[string]int)
	for i, layer := range layers {
		for _, path := range layer {
			path = within(loaded[0].Module.Path, path)
			if _, twice := layerOf[path]; twice {
				return nil, fmt.Errorf("%s is in two layers: want it in one", path)
			}
			layerOf[path] = i
		}
	}

	var found []string
	named := maps.Clone(layerOf)
	for _, p := range loaded {
		for _, broken := range p.Errors {
			err = errors.Join(err, broken)
		}
		layer, isNamed := layerOf[p.PkgPath]
		if !isNamed {
			err = errors.Join(err, fmt.Errorf("%s is in no layer: want it in one", p.PkgPath))
		}
		delete(named, p.PkgPath)
		for _, path := range slices.Sorted(maps.Keys(p.Imports)) {
			below, known := layerOf[path]
			if p.Imports[path].Module == nil || p.Imports[path].Module.Path != p.Module.Path || known && below > layer {
				continue
			}
			found = append(found, fmt.Sprintf("%s imports %s, which is in no layer below its own", p.PkgPath, path))
		}
		for _, circle := range circles(p) {
			found = append(found, p.PkgPath+": "+circle)
		}
	}
	for _, path := range slices.Sorted(maps.Keys(named)) {
		err = errors.Join(err, fmt.Errorf("%s is in a layer, and is no package of this module", path))
	}
	return found, err
}

// within returns the import path of a package that is given by its folder in the module.
func within(module, folder string) string {
	if folder == "." {
		return module
	}
	return module + "/" + strings.TrimPrefix(folder, "./")
}
