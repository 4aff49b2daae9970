// Package browsertest tests package page in a browser, and draws its pictures. It is a module
// of its own, so that users of the outbox do not need the module that drives the browser.
package browsertest
