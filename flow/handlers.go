package flow

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
)

var errRouterClosed = errors.New("the router is closed: a router runs once, make a new one")

// handlers are a topology's handlers on a router.
type handlers struct {
	e      *engine
	router *message.Router
	all    []*message.Handler
	// started is closed when the router has started them.
	started chan struct{}
}

// add adds a handler per source, and starts them if the router runs.
func (h *handlers) add(ctx context.Context) error {
	var failed error
	for _, s := range h.e.subs {
		if failed = h.addOne(s); failed != nil {
			break
		}
	}
	ctx = context.WithoutCancel(ctx)
	if !h.router.IsRunning() {
		// The router may be about to run, and past the handlers that it knew of.
		go func() {
			select {
			case <-h.router.Running():
				h.start(ctx)
			case <-h.e.closed:
			}
		}()
		return failed
	}
	// Where a name was taken, the handlers before it are started, too, and end at once: a router waits for all that it has.
	h.start(ctx)
	return errors.Join(failed, h.e.failure())
}

// addOne turns the router's panic about a name into an error. Looking the name up before would race with handlers that end.
func (h *handlers) addOne(s *subscriber) (err error) {
	t := h.e.t
	name := t.handlerName(s.src)
	defer func() {
		if p := recover(); p != nil {
			if _, taken := p.(message.DuplicateHandlerNameError); !taken {
				panic(p)
			}
			err = &NodeError{t.name, s.src.node().name, fmt.Errorf("the router has a handler %q already: give the topology another name", name)}
		}
	}()
	h.all = append(h.all, h.router.AddConsumerHandler(name, name, s, s.handle))
	return nil
}

// start starts the handlers on a router that runs. It starts all of the router's that wait, so an error may be another's.
func (h *handlers) start(ctx context.Context) {
	if err := h.router.RunHandlers(ctx); err != nil {
		select {
		case <-h.e.allSub:
			h.e.log.Warn("the router could not start another handler", "err", err)
		default:
			h.e.fail(&NodeError{Topology: h.e.t.name, Err: fmt.Errorf("the router could not start the handlers that wait: %w", err)})
			return
		}
	}
	close(h.started)
}

// wait returns when the router has forgotten the handlers, so that their names are free again. A router that is closing forgets none before
// all its handlers have ended: that is not waited for.
func (h *handlers) wait() {
	select {
	case <-h.started:
	default:
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	for _, one := range h.all {
		select {
		case <-one.Stopped():
		case <-ctx.Done():
			return
		}
	}
}
