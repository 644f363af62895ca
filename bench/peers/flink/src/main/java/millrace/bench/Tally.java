package millrace.bench;

import java.io.Serializable;
import org.apache.flink.api.connector.sink2.Sink;
import org.apache.flink.api.connector.sink2.SinkWriter;
import org.apache.flink.api.connector.sink2.WriterInitContext;

/** A sink that counts results and sums a value of them. */
final class Tally<T> implements Sink<T> {
    /** The value of a result. */
    interface Value<T> extends Serializable {
        double of(T t);
    }

    private final Value<T> value;

    Tally(Value<T> value) {
        this.value = value;
    }

    @Override
    public SinkWriter<T> createWriter(WriterInitContext context) {
        return new Writer<>(value);
    }

    private static final class Writer<T> implements SinkWriter<T> {
        private final Value<T> value;
        private long out;
        private double sum;

        Writer(Value<T> value) {
            this.value = value;
        }

        @Override
        public void write(T t, Context context) {
            out++;
            sum += value.of(t);
        }

        @Override
        public void flush(boolean end) {
            if (end) {
                Probe.current().end(out, sum, 0);
            }
        }

        @Override
        public void close() {}
    }
}
