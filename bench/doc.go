// Package bench measures graphretry beside other ways to retry a call to Meta's Graph
// API. Its tests are the measurements. README.md says what each of them is and how to run
// it, and RESULTS.md has their tables.
//
//	subject.go   the ways to retry
//	scenario.go  what an API in trouble goes through, and what is sent to it
//	overload.go  an API that collapses, and many processes
//	fault.go     one path that fails, and an API with a line
//	row.go       the scenarios, the figures and their targets
//	picture.go   pictures of an outage and an overload
package bench
