package millrace.bench;

import java.io.IOException;
import org.apache.flink.api.common.serialization.SerializerConfig;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.api.common.typeutils.TypeSerializer;
import org.apache.flink.api.common.typeutils.TypeSerializerSnapshot;
import org.apache.flink.core.memory.DataInputView;
import org.apache.flink.core.memory.DataOutputView;

/** A serializer written by hand of a mutable type, without state: what all of them have in common. */
public abstract class Serializer<T> extends TypeSerializer<T> {
    @Override
    public boolean isImmutableType() {
        return false;
    }

    @Override
    public TypeSerializer<T> duplicate() {
        return this;
    }

    @Override
    public T copy(T from) {
        return copy(from, createInstance());
    }

    @Override
    public int getLength() {
        return -1;
    }

    @Override
    public T deserialize(DataInputView in) throws IOException {
        return deserialize(createInstance(), in);
    }

    @Override
    public void copy(DataInputView in, DataOutputView out) throws IOException {
        serialize(deserialize(in), out);
    }

    @Override
    public boolean equals(Object o) {
        return o != null && o.getClass() == getClass();
    }

    @Override
    public int hashCode() {
        return getClass().hashCode();
    }

    /** The type that a serializer is of. */
    public static <T> TypeInformation<T> type(Class<T> of, Serializer<T> serializer) {
        return new Own<>(of, serializer);
    }

    /** The serializer of a type that is never written. */
    static final class None<T> extends Serializer<T> {
        private static UnsupportedOperationException never() {
            return new UnsupportedOperationException("this type is for one task");
        }

        @Override
        public T createInstance() {
            return null;
        }

        @Override
        public T copy(T from, T to) {
            throw never();
        }

        @Override
        public void serialize(T t, DataOutputView out) {
            throw never();
        }

        @Override
        public T deserialize(T t, DataInputView in) {
            throw never();
        }

        @Override
        public TypeSerializerSnapshot<T> snapshotConfiguration() {
            throw never();
        }
    }

    private static final class Own<T> extends TypeInformation<T> {
        private final Class<T> of;
        private final Serializer<T> serializer;

        Own(Class<T> of, Serializer<T> serializer) {
            this.of = of;
            this.serializer = serializer;
        }

        @Override
        public boolean isBasicType() {
            return false;
        }

        @Override
        public boolean isTupleType() {
            return false;
        }

        @Override
        public int getArity() {
            return 1;
        }

        @Override
        public int getTotalFields() {
            return 1;
        }

        @Override
        public Class<T> getTypeClass() {
            return of;
        }

        @Override
        public boolean isKeyType() {
            return false;
        }

        @Override
        public TypeSerializer<T> createSerializer(SerializerConfig config) {
            return serializer;
        }

        @Override
        public String toString() {
            return of.getSimpleName();
        }

        @Override
        public boolean equals(Object o) {
            return o instanceof Own && ((Own<?>) o).of == of;
        }

        @Override
        public int hashCode() {
            return of.hashCode();
        }

        @Override
        public boolean canEqual(Object o) {
            return o instanceof Own;
        }
    }
}
