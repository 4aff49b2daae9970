// Package browsertest tests package page in a browser, and draws the pictures of it. It is a
// module of its own, so that who uses the outbox need not have what drives a browser.
package browsertest
