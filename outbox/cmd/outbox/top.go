package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/graphretry/graphretry/outbox"
)

var topVerb = verb{
	name:  "top",
	short: "Shows the outbox live, and why messages wait or have failed.",
	about: "It shows the counts of each number, how many messages it sends a second, the messages that are longest in the queue, " +
		"and those that became failed or unknown last, each with the reason, Meta's title first. \"queued 3h ago\" means that it was enqueued then, " +
		"\"failed 12s ago\" that it last changed then. An interrupt ends it. If the output is no terminal it looks once, " +
		"unless -every or -n is given. It goes on while the database cannot be reached.",
	define: func(c *command, flags *flag.FlagSet) func([]string) (action, error) {
		every := flags.Duration("every", time.Second, "`time` between two looks")
		n := flags.Int("n", 0, "`number` of looks; 0 for no limit")
		return func([]string) (action, error) {
			if *every <= 0 || *n < 0 {
				return nil, wrongUsage("top", "top has -every %v and -n %d: want a time above 0, and a number that is not negative", *every, *n)
			}
			if columns, _ := c.size(); columns == 0 && !isGiven(flags, "every", "n") {
				*n = 1
			}
			return func(ctx context.Context) error { return c.top(ctx, *every, *n) }, nil
		}
	},
}

const (
	// lookTimeout bounds one look.
	lookTimeout = 30 * time.Second
	// slow is after how long top says that the database does not answer.
	slow = 2 * time.Second
)

// looker looks again and again.
type looker struct {
	*command
	last   look
	recent recent
}

// look looks once. It fails at once while the database cannot be reached.
func (l *looker) look(ctx context.Context) (look, error) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	if err := l.place.alive(ctx); err != nil {
		return look{}, err
	}
	stats, err := l.Stats(ctx)
	if err != nil {
		return look{}, err
	}
	next := look{at: l.Now(), stats: stats}
	if next.oldest, err = oldest(ctx, l.Outbox, stats); err != nil {
		return look{}, err
	}
	if next.recent, err = l.recent.look(ctx, stats, next.at); err != nil {
		return look{}, err
	}
	if seconds := next.at.Sub(l.last.at).Seconds(); !l.last.at.IsZero() && seconds > 0 {
		next.perSecond = make(map[string]float64)
		for number, now := range stats.Numbers {
			// There are fewer than before if messages were deleted.
			sent := max(0, now.States[outbox.StateSent]-l.last.stats.Numbers[number].States[outbox.StateSent])
			next.perSecond[number] = float64(sent) / seconds
			next.perSecond[""] += next.perSecond[number]
		}
	}
	l.last = next
	return next, nil
}

func (c *command) top(ctx context.Context, every time.Duration, n int) error {
	l := looker{command: c, recent: recent{list: c.List}}
	return (&watch{screen: screen{command: c}, look: l.look, now: c.Now}).run(ctx, every, n)
}

// watch shows one look after the other.
type watch struct {
	screen
	look func(context.Context) (look, error)
	now  func() time.Time
	// last is the last look that succeeded, and trouble is why there is no newer one.
	last    look
	trouble error
}

// run shows n looks, or with 0 one after the other until ctx ends. It returns the error of the
// last look.
func (w *watch) run(ctx context.Context, every time.Duration, n int) error {
	defer w.leave()
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for i := 1; ; i++ {
		err := w.lookOnce(ctx)
		switch {
		case ctx.Err() != nil:
			return nil // as an interrupt ends it
		case err != nil:
			return err
		case i == n && w.trouble != nil:
			return w.trouble
		}
		if err := w.show(w.last, w.trouble, w.now()); err != nil || i == n {
			return err
		}
		if err := w.wait(ctx, ticker.C); err != nil || ctx.Err() != nil {
			return err
		}
	}
}

// looked is the result of a look.
type looked struct {
	look
	err error
}

// lookOnce looks. If that takes long it says so meanwhile. It returns only errors of printing.
func (w *watch) lookOnce(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan looked, 1)
	go func() {
		next, err := w.look(ctx)
		done <- looked{next, err}
	}()
	began := time.Now()
	// Each time it is said for how long, but no more often than a person reads it.
	ticker := time.NewTicker(slow)
	defer ticker.Stop()
	var printing error
	for {
		select {
		case got := <-done:
			cancel()
			if w.trouble = got.err; got.err == nil {
				w.last = got.look
			}
			return printing
		case <-ticker.C:
			w.trouble = fmt.Errorf("the database has not answered for %v", time.Since(began).Round(time.Second))
		case <-w.resizes():
		}
		if printing = w.show(w.last, w.trouble, w.now()); printing != nil {
			cancel()
		}
	}
}

// wait waits until the next look is due, and draws again if the terminal has another size.
func (w *watch) wait(ctx context.Context, next <-chan time.Time) error {
	for {
		select {
		case <-next:
			return nil
		case <-ctx.Done():
			return nil
		case <-w.resizes():
			if err := w.show(w.last, w.trouble, w.now()); err != nil {
				return err
			}
		}
	}
}

// resizes returns a channel that gets a value when the terminal has another size. Other output
// is not drawn again.
func (w *watch) resizes() <-chan os.Signal {
	if columns, _ := w.size(); columns == 0 || w.asJSON {
		return nil
	}
	return w.resized
}
