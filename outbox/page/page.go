// Package page shows an outbox to its operators in a browser: what is in it, and why. They can
// decide about one message, about many, or about a phone number.
//
//	mux.Handle("/outbox/", http.StripPrefix("/outbox", login(page.Handler(o, page.WithUser(user)))))
//
// The pages have no login. Mount them behind yours, at any path that ends with a slash: their
// links are relative. Without a program to mount them in, "outbox serve" of the command serves
// them on loopback.
//
// Every change is a POST, which [http.CrossOriginProtection] guards, and is logged. The pages
// work without JavaScript, and refresh themselves with it. They load nothing from other hosts,
// and their Content-Security-Policy allows nothing else.
package page

import (
	"bytes"
	"context"
	"embed"
	"html/template"
	"log/slog"
	"net/http"
	"time"

	"github.com/graphretry/graphretry/outbox"
)

//go:embed static
var staticFiles embed.FS

const (
	// maxForm bounds the size of a form, in bytes.
	maxForm = 64 << 10
	// policy lets a page load its own stylesheet, script and icon, load itself again, and send
	// forms to its own origin.
	policy = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)

// Handler returns the pages of an outbox. It needs no [outbox.Outbox.Run] in its process.
func Handler(o *outbox.Outbox, opts ...Option) http.Handler {
	var s settings
	for _, opt := range opts {
		if opt.apply != nil { // the zero Option sets nothing
			opt.apply(&s)
		}
	}
	if s.logger == nil {
		s.logger = slog.Default()
	}
	if s.user == nil {
		s.user = func(*http.Request) string { return "" }
	}
	return newPages(o, s)
}

// newPages returns the handler of all pages. They are all in one folder, so that relative links
// work wherever they are mounted.
func newPages(o *outbox.Outbox, s settings) http.Handler {
	p := &pages{settings: s, outbox: o, template: template.Must(template.New("").Funcs(functions).ParseFS(templateFiles, "templates/*.html"))}
	get := map[string]func(http.ResponseWriter, *http.Request) error{
		"/": p.overview, "/messages": p.messages, "/message": p.message, "/confirm": p.confirm,
		"/style.css": static("text/css; charset=utf-8"), "/refresh.js": static("text/javascript; charset=utf-8"), "/icon.svg": static("image/svg+xml"),
	}
	post := map[string]func(http.ResponseWriter, *http.Request) error{"/decide": p.decide}
	guard := http.NewCrossOriginProtection()
	guard.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.logger.Warn("outbox: a form from another origin was refused", p.who(r), slog.String("url.path", r.URL.Path))
		p.fail(w, r, errCrossOrigin)
	}))
	serve := func(w http.ResponseWriter, r *http.Request) {
		path := r.URL.Path
		if path == "" { // behind http.StripPrefix with the slash
			path = "/"
		}
		reads, writes := get[path], post[path]
		isRead := r.Method == http.MethodGet || r.Method == http.MethodHead
		var err error
		switch {
		case reads == nil && writes == nil:
			err = wrong{http.StatusNotFound, "There is no such page", "The overview has links to all pages."}
		case isRead && reads != nil:
			var cancel context.CancelFunc
			ctx := r.Context()
			ctx, cancel = context.WithTimeout(ctx, readTimeout)
			defer cancel()
			err = reads(w, r.WithContext(ctx))
		case r.Method == http.MethodPost && writes != nil:
			r.Body = http.MaxBytesReader(w, r.Body, maxForm)
			err = writes(w, r)
		default:
			allowed := "GET, HEAD"
			if reads == nil {
				allowed = "POST"
			}
			w.Header().Set("Allow", allowed)
			err = wrong{http.StatusMethodNotAllowed, "This method is not allowed here", "The request was " + r.Method + ", and this page takes only " + allowed + "."}
		}
		if err != nil {
			p.fail(w, r, err)
		}
	}
	guarded := guard.Handler(http.HandlerFunc(serve))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		// Not "no-referrer": with that a browser hides the origin of a form too.
		h.Set("Referrer-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		guarded.ServeHTTP(w, r)
	})
}

// static serves the file of a path.
func static(contentType string) func(http.ResponseWriter, *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error {
		content, err := staticFiles.ReadFile("static" + r.URL.Path)
		if err != nil {
			return err
		}
		w.Header().Set("Content-Type", contentType)
		w.Header().Set("Cache-Control", "no-cache")
		http.ServeContent(w, r, r.URL.Path, time.Time{}, bytes.NewReader(content))
		return nil
	}
}
