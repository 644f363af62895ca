package mqttconn

import (
	"context"
	"fmt"
	"time"
)

// Credentials gives the username and password for one attempt to connect, for tokens that expire. It is asked before each
// attempt and should answer within a few seconds; the end of ctx is the end of the attempt. An error is tried again, like a
// broker that cannot be reached.
type Credentials func(ctx context.Context) (username string, password Secret, err error)

// Ask asks for credentials, within a time.
func (c Credentials) Ask(ctx context.Context, timeout time.Duration) (username string, password Secret, err error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	username, password, err = c(ctx)
	if err != nil {
		return "", "", fmt.Errorf("credentials: %w", err)
	}
	return username, password, nil
}
