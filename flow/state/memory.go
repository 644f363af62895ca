package state

// InMemory is the explicit choice to keep no durable state: epochs ack without it, a crash loses what windows and dedups held, and
// starting without state is allowed. It costs nothing.
func InMemory() Store { return memory{} }

type memory struct{}

func (memory) Open(string) (DB, error) { return nothing{}, nil }
func (memory) Durable() bool           { return false }

// nothing is a database that holds nothing.
type nothing struct{}

func (nothing) Get([]byte) ([]byte, bool, error)                        { return nil, false, nil }
func (nothing) Scan(_, _ []byte, _ func(key, value []byte) error) error { return nil }
func (nothing) NewBatch() Batch                                         { return noBatch{} }
func (nothing) Close() error                                            { return nil }

type noBatch struct{}

func (noBatch) Put([]byte, []byte)         {}
func (noBatch) Delete([]byte)              {}
func (noBatch) DeleteRange([]byte, []byte) {}
func (noBatch) Commit() error              { return nil }
func (noBatch) Close() error               { return nil }
