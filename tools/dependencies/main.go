// Command dependencies checks that the dependencies of a module's packages go one way.
//
//	dependencies [-C folder] layer...
//
// A layer is a comma-separated list of packages, and the highest comes first. A package may
// import, of its own module, only packages of the layers below its own. The root and each
// package in internal must be in a layer; others may be.
//
// In each of these packages no files may use each other in a circle. A file uses another
// that declares a name to which it refers; a method or a field is declared where it stands,
// and not where its type does. Test files are left out, and so are files that the build
// leaves out here.
package main

import (
	"flag"
	"fmt"
	"os"
	"strings"
)

func main() {
	folder := flag.String("C", ".", "the folder of the module")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: dependencies [-C folder] layer...\n\n"+
			"A layer is a comma-separated list of packages, and the highest comes first:\n\n"+
			"\tdependencies . ./internal/a,./internal/b ./internal/c")
		flag.PrintDefaults()
	}
	flag.Parse()
	if flag.NArg() == 0 {
		flag.Usage()
		os.Exit(2)
	}
	var layers [][]string
	for _, layer := range flag.Args() {
		layers = append(layers, strings.Split(layer, ","))
	}
	found, err := check(*folder, layers)
	if err != nil {
		fmt.Fprintln(os.Stderr, "dependencies:", err)
		os.Exit(2)
	}
	for _, one := range found {
		fmt.Println(one)
	}
	if len(found) > 0 {
		os.Exit(1)
	}
}
