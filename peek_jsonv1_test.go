//go:build !goexperiment.jsonv2

package graphretry_test

// morePeekAllocations is how many allocations a Transport may make beyond those of a peek
// by hand.
const morePeekAllocations = 0
