package millrace.bench;

import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.ObjectReader;
import java.time.Duration;
import java.util.Iterator;
import java.util.List;
import java.util.Map;
import java.util.function.BiConsumer;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.api.common.functions.OpenContext;
import org.apache.flink.api.common.functions.RichMapFunction;
import org.apache.flink.api.common.state.MapState;
import org.apache.flink.api.common.state.MapStateDescriptor;
import org.apache.flink.api.common.typeinfo.BasicTypeInfo;
import org.apache.flink.api.common.typeinfo.PrimitiveArrayTypeInfo;
import org.apache.flink.api.java.functions.KeySelector;
import org.apache.flink.cep.CEP;
import org.apache.flink.cep.functions.PatternProcessFunction;
import org.apache.flink.cep.pattern.Pattern;
import org.apache.flink.cep.pattern.conditions.SimpleCondition;
import org.apache.flink.streaming.api.datastream.DataStream;
import org.apache.flink.streaming.api.datastream.DataStreamUtils;
import org.apache.flink.streaming.api.datastream.KeyedStream;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.streaming.api.functions.KeyedProcessFunction;
import org.apache.flink.streaming.api.windowing.assigners.SlidingEventTimeWindows;
import org.apache.flink.streaming.api.windowing.assigners.TumblingEventTimeWindows;
import org.apache.flink.streaming.api.windowing.assigners.WindowAssigner;
import org.apache.flink.streaming.api.windowing.windows.TimeWindow;
import org.apache.flink.util.Collector;

/** The reference jobs A to F as Flink jobs. */
final class Jobs {
    private Jobs() {}

    /** All jobs; those with checkpoints are B10k and B1m with one a second. */
    static List<Scenario> all() {
        return List.of(
                new Of(Workload.A, "", 40_000_000, Jobs::a),
                new Of(Workload.B10K, "", 2_000_000, (env, s) -> tumbling(Workload.B10K, env, s)),
                new Of(Workload.B1M, "", 1_000_000, (env, s) -> tumbling(Workload.B1M, env, s)),
                new Of(Workload.C, "", 200_000, Jobs::c),
                new Of(Workload.D, "", 1_000_000, Jobs::d),
                new Of(Workload.EN, "", 500_000, (env, s) -> cep(Workload.EN, hot("first").next("second").where(IS_HOT).next("third").where(IS_HOT), env, s)),
                new Of(Workload.EF, "", 500_000, (env, s) -> cep(Workload.EF, hot("first").followedBy("second").where(IS_HOT).followedBy("third").where(IS_HOT), env, s)),
                new Of(Workload.F, "", 1_000_000, Jobs::f),
                new Of(Workload.B10K, "-checkpoints", 10_000_000, (env, s) -> tumbling(Workload.B10K, env, s)),
                new Of(Workload.B1M, "-checkpoints", 5_000_000, (env, s) -> tumbling(Workload.B1M, env, s)));
    }

    private record Of(Workload.Job job, String with, long events, BiConsumer<StreamExecutionEnvironment, Scenario.Setup> builder) implements Scenario {
        @Override
        public String name() {
            return job.name() + with;
        }

        @Override
        public String about() {
            return job.what() + (checkpoints() ? ", a checkpoint every second" : "");
        }

        @Override
        public boolean checkpoints() {
            return !with.isEmpty();
        }

        @Override
        public List<Known> known() {
            return List.of(new Known(Workload.N, 0), new Known(Workload.SMALL, 0));
        }

        @Override
        public void build(StreamExecutionEnvironment env, Setup s) {
            builder.accept(env, s);
        }

        @Override
        public String problem(Setup s, Probe got) {
            return job.problem(s.events(), new Workload.Result(got.out(), got.sum()));
        }
    }

    /** Makes the events of a job: the same one again and again where nothing keeps it, as Flink's object reuse allows. */
    private static final class Events implements Numbered.Maker<Event> {
        private final String job;
        private final boolean kept;
        private transient Workload.Generator g;
        private transient Event e;

        Events(Workload.Job job, boolean kept) {
            this.job = job.name();
            this.kept = kept;
        }

        @Override
        public void open() {
            g = new Workload.Generator(byName(job));
            e = new Event();
        }

        @Override
        public Event make(long i) {
            Event e = kept ? new Event() : this.e;
            g.fill(i, e);
            return e;
        }

        @Override
        public long time(Event e) {
            return e.ts;
        }
    }

    private static Workload.Job byName(String name) {
        return List.of(Workload.A, Workload.B10K, Workload.B1M, Workload.C, Workload.D, Workload.EN, Workload.EF).stream()
                .filter(j -> j.name().equals(name)).findFirst().orElseThrow();
    }

    private static final WatermarkStrategy<Event> IN_TIME = WatermarkStrategy.<Event>forMonotonousTimestamps().withTimestampAssigner((e, at) -> e.ts);

    /** The events of a job in event time, of one reader: they are in order, as in Millrace's source. */
    private static KeyedStream<Event, String> byDevice(Workload.Job job, boolean kept, StreamExecutionEnvironment env, Scenario.Setup s) {
        // Where the exchange writes events to a buffer, nothing keeps the source's.
        DataStream<Event> in = env.fromSource(new Numbered<>(new Events(job, kept && s.forward()), s.events()), IN_TIME, "events", Event.TYPE).setParallelism(1);
        return keyed(in, s);
    }

    private static KeyedStream<Event, String> keyed(DataStream<Event> in, Scenario.Setup s) {
        KeySelector<Event, String> device = e -> e.device;
        if (s.forward()) {
            return DataStreamUtils.reinterpretAsKeyedStream(in, device, BasicTypeInfo.STRING_TYPE_INFO);
        }
        return in.keyBy(device, BasicTypeInfo.STRING_TYPE_INFO);
    }

    private static void a(StreamExecutionEnvironment env, Scenario.Setup s) {
        env.fromSource(new Numbered<>(new Events(Workload.A, false), s.events()), WatermarkStrategy.noWatermarks(), "events", Event.TYPE)
                .map(e -> {
                    e.temperature = e.temperature * 1.8 + 32;
                    return e;
                }).returns(Event.TYPE)
                .filter(e -> e.humidity < 50)
                .map(e -> {
                    e.humidity = e.temperature * 0.5 + e.humidity * 0.1;
                    return e;
                }).returns(Event.TYPE)
                .sinkTo(new Tally<>(e -> e.humidity));
    }

    private static void tumbling(Workload.Job job, StreamExecutionEnvironment env, Scenario.Setup s) {
        windowed(byDevice(job, false, env, s), TumblingEventTimeWindows.of(Duration.ofMinutes(1)));
    }

    private static void c(StreamExecutionEnvironment env, Scenario.Setup s) {
        windowed(byDevice(Workload.C, false, env, s), SlidingEventTimeWindows.of(Duration.ofMinutes(1), Duration.ofSeconds(1)));
    }

    private static void windowed(KeyedStream<Event, String> in, WindowAssigner<Object, TimeWindow> windows) {
        in.window(windows).aggregate(new Stats.Aggregate(), Stats.TYPE, Stats.TYPE).sinkTo(new Tally<>(Stats::total));
    }

    private static void d(StreamExecutionEnvironment env, Scenario.Setup s) {
        byDevice(Workload.D, false, env, s).process(new Dedup(), Event.TYPE).sinkTo(new Tally<>(e -> e.humidity));
    }

    /** Drops numbers that its device had within 5 s at least, 10 s at most: a timer per device and 5 s forgets those that came in the 5 s before. */
    private static final class Dedup extends KeyedProcessFunction<String, Event, Event> {
        private static final long TTL = 5_000;

        /** By number, in which 5 s it came: the last byte of their count, which needs no object of its own. */
        private transient MapState<Long, Byte> seen;

        @Override
        public void open(OpenContext context) {
            seen = getRuntimeContext().getMapState(new MapStateDescriptor<>("seen", BasicTypeInfo.LONG_TYPE_INFO, BasicTypeInfo.BYTE_TYPE_INFO));
        }

        @Override
        public void processElement(Event e, Context context, Collector<Event> out) throws Exception {
            Long seq = e.seq;
            if (seen.contains(seq)) {
                return;
            }
            long of = e.ts / TTL;
            seen.put(seq, (byte) of);
            context.timerService().registerEventTimeTimer((of + 2) * TTL - 1);
            out.collect(e);
        }

        @Override
        public void onTimer(long at, OnTimerContext context, Collector<Event> out) throws Exception {
            byte of = (byte) ((at + 1) / TTL - 2);
            for (Iterator<Map.Entry<Long, Byte>> all = seen.iterator(); all.hasNext();) {
                if (all.next().getValue() == of) {
                    all.remove();
                }
            }
        }
    }

    private static final SimpleCondition<Event> IS_HOT = SimpleCondition.of(e -> e.temperature > 90);

    private static Pattern<Event, Event> hot(String name) {
        return Pattern.<Event>begin(name).where(IS_HOT);
    }

    private static void cep(Workload.Job job, Pattern<Event, Event> pattern, StreamExecutionEnvironment env, Scenario.Setup s) {
        CEP.pattern(byDevice(job, true, env, s), pattern.within(Duration.ofSeconds(10)))
                .process(new PatternProcessFunction<Event, Integer>() {
                    @Override
                    public void processMatch(Map<String, List<Event>> match, Context context, Collector<Integer> out) {
                        out.collect(match.size());
                    }
                }, BasicTypeInfo.INT_TYPE_INFO)
                .sinkTo(new Tally<>(n -> 0));
    }

    /** Job F's payload. */
    public static final class Reading {
        public String deviceId;
        public long ts;
        public double temperature;
        public double humidity;
        public String fw;
        public long seq;
    }

    private static final class Payloads implements Numbered.Maker<byte[]> {
        private static final Workload.Payloads POOL = new Workload.Payloads(Workload.F);

        private transient Workload.Payloads pool;

        @Override
        public void open() {
            pool = POOL;
        }

        @Override
        public byte[] make(long i) {
            return pool.make(i);
        }

        @Override
        public long time(byte[] payload) {
            return Long.MIN_VALUE; // it is in the payload
        }
    }

    /** Decodes with Jackson's data binding and converts; the event is the same one again and again. */
    private static final class Decode extends RichMapFunction<byte[], Event> {
        private transient ObjectReader reader;
        private transient Event e;

        @Override
        public void open(OpenContext context) {
            reader = new ObjectMapper().readerFor(Reading.class);
            e = new Event();
        }

        @Override
        public Event map(byte[] payload) throws Exception {
            Reading r = reader.readValue(payload);
            e.device = r.deviceId;
            e.ts = r.ts;
            e.temperature = r.temperature * 1.8 + 32;
            e.humidity = r.humidity;
            e.seq = r.seq;
            return e;
        }
    }

    private static void f(StreamExecutionEnvironment env, Scenario.Setup s) {
        DataStream<Event> in = env.fromSource(new Numbered<>(new Payloads(), s.events()), WatermarkStrategy.noWatermarks(), "payloads", PrimitiveArrayTypeInfo.BYTE_PRIMITIVE_ARRAY_TYPE_INFO)
                .setParallelism(1).map(new Decode()).returns(Event.TYPE).setParallelism(1).assignTimestampsAndWatermarks(IN_TIME).setParallelism(1);
        windowed(keyed(in, s), TumblingEventTimeWindows.of(Duration.ofMinutes(1)));
    }
}
