package millrace.bench;

import java.util.List;
import java.util.function.Function;
import millrace.bench.nexmark.Expected;
import millrace.bench.nexmark.Generator;
import millrace.bench.nexmark.NexmarkEvent;
import millrace.bench.nexmark.Queries;
import millrace.bench.nexmark.Row;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;

/** The Nexmark queries as scenarios. */
final class NexmarkScenarios {
    /** Seed and rate of event time of bench/nexmark's scenarios. */
    private static final long SEED = 1;

    private static final double RATE = 10_000;

    private NexmarkScenarios() {}

    static List<Scenario> all() {
        List<Expected> expected = Expected.all();
        return Queries.all().stream().map((Function<Queries.Named, Scenario>) q -> new Of(q, expected)).toList();
    }

    private record Of(Queries.Named query, List<Expected> expected) implements Scenario {
        @Override
        public String name() {
            return "nexmark/" + query.name();
        }

        @Override
        public String about() {
            return query.about();
        }

        @Override
        public long events() {
            return query.events();
        }

        @Override
        public List<Known> known() {
            return expected.stream().map(x -> new Known(x.events(), x.rate())).toList();
        }

        @Override
        public void build(StreamExecutionEnvironment env, Setup s) {
            double rate = s.rate() > 0 ? s.rate() : RATE;
            // Bids one by one need no order, the others are made in one place, as in Millrace's source.
            int sources = query.each() ? s.parallelism() : 1;
            var in = env.fromSource(new Numbered<>(new Events(rate), s.events()),
                    query.each() ? WatermarkStrategy.noWatermarks() : WatermarkStrategy.<NexmarkEvent>forMonotonousTimestamps().withTimestampAssigner((e, at) -> e.at),
                    "events", EVENT).setParallelism(sources);
            query.query().build(in, s.forward()).sinkTo(new Tally<>(r -> 0, s.check() ? Row::checksum : null));
        }

        @Override
        public String problem(Setup s, Probe got) {
            double rate = s.rate() > 0 ? s.rate() : RATE;
            for (Expected x : expected) {
                if (x.events() != s.events() || x.rate() != rate || x.seed() != SEED) {
                    continue;
                }
                Expected.Result want = x.queries().get(query.name());
                String checksum = String.format("%016x", got.checksum());
                if (got.out() != want.count() || s.check() && !checksum.equals(want.checksum())) {
                    return String.format("%d events give %d rows and checksum %s, want %d and %s", s.events(), got.out(), checksum, want.count(), want.checksum());
                }
            }
            return null;
        }
    }

    /** Events stay in the task of their source: nothing writes them. */
    private static final TypeInformation<NexmarkEvent> EVENT = Serializer.type(NexmarkEvent.class, new Serializer.None<NexmarkEvent>());

    /** Makes the same event again and again; people and auctions are new ones. */
    private static final class Events implements Numbered.Maker<NexmarkEvent> {
        private final double rate;
        private transient Generator g;
        private transient NexmarkEvent e;

        Events(double rate) {
            this.rate = rate;
        }

        @Override
        public void open() {
            g = new Generator(SEED, rate);
            e = new NexmarkEvent();
            e.bid = new NexmarkEvent.Bid();
        }

        @Override
        public NexmarkEvent make(long i) {
            g.fill(i, e);
            return e;
        }

        @Override
        public long time(NexmarkEvent e) {
            return e.at;
        }
    }
}
