// Package bench measures graphretry side by side with other ways to retry a call
// to Meta's Graph API. Its tests are the measurements; README.md says what each
// is and how to run it.
//
//	subject.go   who is compared
//	scenario.go  what an API in trouble goes through, and what is sent to it
//	overload.go  an API that collapses, and many processes
//	fault.go     one path that fails, and an API with a line
//	row.go       the scenarios, and the figures to reach
//	picture.go   an outage and an overload, drawn
package bench
