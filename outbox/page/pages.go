package page

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"html/template"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/graphretry/graphretry/outbox"
)

//go:embed templates/*.html
var templateFiles embed.FS

//go:embed static
var staticFiles embed.FS

const (
	// readTimeout bounds what a page reads from the database.
	readTimeout = 15 * time.Second
	// maxForm bounds what a form sends, in bytes.
	maxForm = 64 << 10
	// policy lets a page load its own stylesheet, script and icon, ask for itself anew, and
	// send forms to where it comes from.
	policy = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)

// pages are the pages of one outbox.
type pages struct {
	settings
	outbox   *outbox.Outbox
	template *template.Template
	rates    rates
}

// newPages returns the handler of all pages. They are all in one folder, so that a relative
// link leads from each to each, wherever they are mounted.
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
			err = wrong{http.StatusNotFound, "There is no such page", "The overview leads to all that there are."}
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
			err = wrong{http.StatusMethodNotAllowed, "This method is not allowed here", "The request was " + r.Method + ", and this page takes " + allowed + " alone."}
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
		// Not "no-referrer": a browser then hides the origin of a form, too.
		h.Set("Referrer-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		guarded.ServeHTTP(w, r)
	})
}

// static serves the file that a path names.
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

// show writes a page. It is made as a whole first, so that an error leaves no half of one.
func (p *pages) show(w http.ResponseWriter, status int, name string, data any) error {
	var text bytes.Buffer
	if err := p.template.ExecuteTemplate(&text, name+".html", data); err != nil {
		return err
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = text.WriteTo(w) // the browser has gone
	return nil
}

// wrong is an error that the user sees on a page.
type wrong struct {
	status       int
	title, cause string
}

func (e wrong) Error() string { return e.title + ": " + e.cause }

var errCrossOrigin = wrong{http.StatusForbidden, "This form came from another site", "Nothing was changed. What changes something must be sent from these pages."}

// fail shows what has gone wrong.
func (p *pages) fail(w http.ResponseWriter, r *http.Request, err error) {
	var seen wrong
	switch {
	case errors.As(err, &seen):
	case errors.Is(err, outbox.ErrNotFound):
		seen = wrong{http.StatusNotFound, "This message is not there", "It was never enqueued, somebody has deleted it, or it is older than the retention. " + sentence(err)}
	case errors.Is(err, outbox.ErrInvalid):
		seen = wrong{http.StatusBadRequest, "This makes no sense", sentence(err)}
	case errors.Is(err, context.Canceled) && r.Context().Err() != nil:
		return // nobody waits for it
	case errors.Is(err, outbox.ErrClosed):
		seen = wrong{http.StatusServiceUnavailable, "The outbox is closed", "The process that shows these pages is about to end."}
	case errors.Is(err, context.DeadlineExceeded):
		seen = wrong{http.StatusServiceUnavailable, "The database has not answered in time", sentence(err)}
	default:
		// What a database says may name hosts and users: it is for the log.
		seen = wrong{http.StatusInternalServerError, "Something has gone wrong", "The log of the process says what."}
	}
	if seen.status >= 500 {
		p.logger.Error("outbox: a page cannot be shown", p.who(r), slog.String("url.path", r.URL.Path), slog.String("error.message", err.Error()))
	}
	if err := p.show(w, seen.status, "wrong", wrongPage{Title: seen.title, Cause: seen.cause}); err != nil {
		http.Error(w, seen.title, seen.status)
	}
}

type wrongPage struct{ Title, Cause string }

// who is the attribute with the user of a request; it is empty, and so left out, without one.
func (p *pages) who(r *http.Request) slog.Attr {
	if name := p.user(r); name != "" {
		return slog.String("user.name", name)
	}
	return slog.Attr{}
}

// sentence returns the text of an error as a sentence.
func sentence(err error) string {
	text := strings.TrimPrefix(err.Error(), "outbox: ")
	if text == "" {
		return ""
	}
	return strings.ToUpper(text[:1]) + text[1:] + "."
}
