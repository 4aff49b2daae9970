package main

import (
	"context"
	"flag"

	"github.com/graphretry/graphretry/outbox"
)

var (
	pauseVerb = pausing("pause", true, (*outbox.Outbox).Pause,
		"Stops a phone number, or all, on every machine.", "Attempts that are under way are completed. Without a number it applies to all numbers. It lasts until resume.")
	resumeVerb = pausing("resume", false, (*outbox.Outbox).Resume,
		"Ends the pause of a phone number, or that of all.", "Without a number it ends the pause of all; a number that was paused by itself stays paused.")
)

// pauseDocument is a phone number that was paused or resumed, or all of them if it has none.
type pauseDocument struct {
	PhoneNumberID string `json:"phone_number_id,omitempty"`
	Paused        bool   `json:"paused"`
}

func pausing(name string, paused bool, do func(*outbox.Outbox, context.Context, string) error, short, about string) verb {
	return verb{
		name: name, arguments: "[NUMBER]", most: 1, short: short, about: about,
		define: func(c *command, _ *flag.FlagSet) func([]string) (action, error) {
			return func(args []string) (action, error) {
				number, of := "", "all phone numbers are"
				if len(args) == 1 {
					// An empty variable of a script must not mean all numbers.
					if number, of = args[0], args[0]+" is"; number == "" {
						return nil, wrongUsage(name, "%s has an empty phone number ID: leave it out for all", name)
					}
				}
				return func(ctx context.Context) error {
					if err := do(c.Outbox, ctx, number); err != nil {
						return err
					}
					return c.print(pauseDocument{number, paused}, of+" "+name+"d")
				}, nil
			}
		},
	}
}
