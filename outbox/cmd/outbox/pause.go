package main

import (
	"context"
	"flag"

	"github.com/graphretry/graphretry/outbox"
)

var (
	pauseVerb = pausing("pause", true, (*outbox.Outbox).Pause,
		"Stops a phone number, or all, on every machine.", "What is being sent comes to its end. Without a number it is about all of them. It lasts until resume.")
	resumeVerb = pausing("resume", false, (*outbox.Outbox).Resume,
		"Ends the pause of a phone number, or that of all.", "Without a number it ends that of all; one that was paused by itself stays so.")
)

// pauseDocument is a phone number that was paused or resumed, or without one all.
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
					// A variable of a script that is empty must not mean all numbers.
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
