package page

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"html/template"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"github.com/graphretry/graphretry/outbox"
)

//go:embed templates/*.html
var templateFiles embed.FS

// readTimeout bounds how long a page reads from the database.
const readTimeout = 15 * time.Second

// pages are the pages of one outbox.
type pages struct {
	settings
	outbox   *outbox.Outbox
	template *template.Template
	rates    rates
}

// show writes a page. It executes the whole template first, so that an error leaves no
// incomplete page.
func (p *pages) show(w http.ResponseWriter, status int, name string, data any) error {
	var text bytes.Buffer
	if err := p.template.ExecuteTemplate(&text, name+".html", data); err != nil {
		return err
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = text.WriteTo(w) // an error means that the browser has closed the connection
	return nil
}

// fail shows an error.
func (p *pages) fail(w http.ResponseWriter, r *http.Request, err error) {
	var seen wrong
	switch {
	case errors.As(err, &seen):
	case errors.Is(err, outbox.ErrNotFound):
		seen = wrong{http.StatusNotFound, "There is no such message", "It was never enqueued, it was deleted, or it is older than the retention. " + sentence(err)}
	case errors.Is(err, outbox.ErrInvalid):
		seen = wrong{http.StatusBadRequest, "This request is not valid", sentence(err)}
	case errors.Is(err, context.Canceled) && r.Context().Err() != nil:
		return // the browser has closed the connection
	case errors.Is(err, outbox.ErrClosed):
		seen = wrong{http.StatusServiceUnavailable, "The outbox is closed", "The process that shows these pages is about to end."}
	case errors.Is(err, context.DeadlineExceeded):
		seen = wrong{http.StatusServiceUnavailable, "The database has not answered in time", sentence(err)}
	default:
		// The error of a database may name hosts and users, so only the log has it.
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

// who returns the attribute with the user of a request, or an empty one, which is left out, if
// there is none.
func (p *pages) who(r *http.Request) slog.Attr {
	if name := p.user(r); name != "" {
		return slog.String("user.name", name)
	}
	return slog.Attr{}
}

// frame is what every page has.
type frame struct {
	Title string
	Now   time.Time
	// Done says what has just been done, "" for nothing.
	Done string
}

func (p *pages) frame(r *http.Request, title string, now time.Time) frame {
	f := frame{Title: title, Now: now}
	if d, ok := decisions[r.FormValue("did")]; ok {
		if n, err := strconv.Atoi(r.FormValue("n")); err == nil && n >= 0 {
			f.Done = d.report(n)
		}
	}
	return f
}
