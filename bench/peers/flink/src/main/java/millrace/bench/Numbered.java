package millrace.bench;

import java.io.IOException;
import java.io.Serializable;
import java.nio.ByteBuffer;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import org.apache.flink.api.connector.source.Boundedness;
import org.apache.flink.api.connector.source.ReaderOutput;
import org.apache.flink.api.connector.source.Source;
import org.apache.flink.api.connector.source.SourceReader;
import org.apache.flink.api.connector.source.SourceReaderContext;
import org.apache.flink.api.connector.source.SourceSplit;
import org.apache.flink.api.connector.source.SplitEnumerator;
import org.apache.flink.api.connector.source.SplitEnumeratorContext;
import org.apache.flink.core.io.InputStatus;
import org.apache.flink.core.io.SimpleVersionedSerializer;

/** A source of events by number, 0 to n-1, in as many splits as it has readers: split s of p has s, s+p, s+2p and so on. */
final class Numbered<T> implements Source<T, Numbered.Split, Integer> {
    /** How many events a poll emits; barriers and watermarks wait for them. */
    private static final int BATCH = 256;

    /** Makes events. It is opened in each reader before anything is measured. */
    interface Maker<T> extends Serializable {
        default void open() {}

        T make(long i);

        long time(T t);
    }

    private final Maker<T> maker;
    private final long n;

    Numbered(Maker<T> maker, long n) {
        this.maker = maker;
        this.n = n;
    }

    /** Where a split stands. */
    record Split(int id, int step, long next) implements SourceSplit {
        @Override
        public String splitId() {
            return Integer.toString(id);
        }
    }

    @Override
    public Boundedness getBoundedness() {
        return Boundedness.BOUNDED;
    }

    @Override
    public SplitEnumerator<Split, Integer> createEnumerator(SplitEnumeratorContext<Split> context) {
        List<Split> all = new ArrayList<>();
        int p = context.currentParallelism();
        for (int i = 0; i < p; i++) {
            all.add(new Split(i, p, i));
        }
        return new Enumerator(context, all);
    }

    @Override
    public SplitEnumerator<Split, Integer> restoreEnumerator(SplitEnumeratorContext<Split> context, Integer checkpoint) {
        return new Enumerator(context, List.of()); // readers bring their splits back
    }

    @Override
    public SourceReader<T, Split> createReader(SourceReaderContext context) {
        return new Reader<>(maker, n);
    }

    private static final class Reader<T> implements SourceReader<T, Split> {
        private final Maker<T> maker;
        private final long n;
        private final ArrayDeque<Split> waiting = new ArrayDeque<>();
        private final CompletableFuture<Void> given = new CompletableFuture<>();
        private Split current;
        private long next;
        private boolean complete;

        Reader(Maker<T> maker, long n) {
            this.maker = maker;
            this.n = n;
        }

        @Override
        public void start() {
            maker.open();
        }

        @Override
        public InputStatus pollNext(ReaderOutput<T> out) {
            if (current == null) {
                current = waiting.poll();
                if (current == null) {
                    return complete ? InputStatus.END_OF_INPUT : InputStatus.NOTHING_AVAILABLE;
                }
                next = current.next;
                Probe.current().begin();
            }
            long step = current.step;
            long end = Math.min(n, next + BATCH * step);
            long i = next;
            for (; i < end; i += step) {
                T e = maker.make(i);
                out.collect(e, maker.time(e));
            }
            next = i;
            if (next >= n) {
                current = null;
            }
            return InputStatus.MORE_AVAILABLE;
        }

        @Override
        public List<Split> snapshotState(long checkpoint) {
            List<Split> all = new ArrayList<>(waiting);
            if (current != null) {
                all.add(new Split(current.id, current.step, next));
            }
            return all;
        }

        @Override
        public CompletableFuture<Void> isAvailable() {
            return given;
        }

        @Override
        public void addSplits(List<Split> splits) {
            waiting.addAll(splits);
            given.complete(null);
        }

        @Override
        public void notifyNoMoreSplits() {
            complete = true;
            given.complete(null);
        }

        @Override
        public void close() {}
    }

    private static final class Enumerator implements SplitEnumerator<Split, Integer> {
        private final SplitEnumeratorContext<Split> context;
        private final List<Split> left;

        Enumerator(SplitEnumeratorContext<Split> context, List<Split> left) {
            this.context = context;
            this.left = new ArrayList<>(left);
        }

        @Override
        public void start() {}

        @Override
        public void handleSplitRequest(int reader, String host) {}

        @Override
        public void addSplitsBack(List<Split> splits, int reader) {
            splits.forEach(s -> context.assignSplit(s, reader));
        }

        @Override
        public void addReader(int reader) {
            left.stream().filter(s -> s.id == reader).forEach(s -> context.assignSplit(s, reader));
            left.removeIf(s -> s.id == reader);
            context.signalNoMoreSplits(reader);
        }

        @Override
        public Integer snapshotState(long checkpoint) {
            return 0;
        }

        @Override
        public void close() {}
    }

    @Override
    public SimpleVersionedSerializer<Split> getSplitSerializer() {
        return new SimpleVersionedSerializer<>() {
            @Override
            public int getVersion() {
                return 1;
            }

            @Override
            public byte[] serialize(Split s) {
                return ByteBuffer.allocate(16).putInt(s.id).putInt(s.step).putLong(s.next).array();
            }

            @Override
            public Split deserialize(int version, byte[] bytes) throws IOException {
                ByteBuffer b = ByteBuffer.wrap(bytes);
                return new Split(b.getInt(), b.getInt(), b.getLong());
            }
        };
    }

    @Override
    public SimpleVersionedSerializer<Integer> getEnumeratorCheckpointSerializer() {
        return new SimpleVersionedSerializer<>() {
            @Override
            public int getVersion() {
                return 1;
            }

            @Override
            public byte[] serialize(Integer nothing) {
                return new byte[0];
            }

            @Override
            public Integer deserialize(int version, byte[] bytes) {
                return 0;
            }
        };
    }
}
